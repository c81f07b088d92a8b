# Rotation of the secrets of kafka, by the team that owns it.
path "kv/data/data-platform/kafka/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/kafka/*" { capabilities = ["read", "list"] }
