# Rotation of the secrets of dagster, by the team that owns it.
path "kv/data/data-platform/dagster/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/dagster/*" { capabilities = ["read", "list"] }
