# Rotation of the secrets of object-store, by the team that owns it.
path "kv/data/data-platform/object-store/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/object-store/*" { capabilities = ["read", "list"] }
