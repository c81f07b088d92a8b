# Rotation of the secrets of postgres, by the team that owns it.
path "kv/data/data-platform/postgres/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/postgres/*" { capabilities = ["read", "list"] }
