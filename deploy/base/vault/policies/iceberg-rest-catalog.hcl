# Rotation of the secrets of iceberg-rest-catalog, by the team that owns it.
path "kv/data/data-platform/catalog/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/catalog/*" { capabilities = ["read", "list"] }
