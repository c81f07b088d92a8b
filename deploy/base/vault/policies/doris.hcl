# Rotation of the secrets of doris, by the team that owns it.
path "kv/data/data-platform/doris/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/doris/*" { capabilities = ["read", "list"] }
