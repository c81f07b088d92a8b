# Rotation of the secrets of datahub, by the team that owns it.
path "kv/data/data-platform/datahub/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/datahub/*" { capabilities = ["read", "list"] }
