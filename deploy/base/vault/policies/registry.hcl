# Rotation of the secrets of registry, by the team that owns it.
path "kv/data/registry/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/registry/*" { capabilities = ["read", "list"] }
