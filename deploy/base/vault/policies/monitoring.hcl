# Rotation of the secrets of monitoring, by the team that owns it.
path "kv/data/monitoring/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/monitoring/*" { capabilities = ["read", "list"] }
