# Rotation of the secrets of superset, by the team that owns it.
path "kv/data/data-platform/superset/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/superset/*" { capabilities = ["read", "list"] }
