# Rotation of the secrets of trino, by the team that owns it.
path "kv/data/data-platform/trino/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/trino/*" { capabilities = ["read", "list"] }
