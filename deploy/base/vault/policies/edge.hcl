# Rotation of the secrets of edge, by the team that owns it.
path "kv/data/data-platform/cloudflared/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/cloudflared/*" { capabilities = ["read", "list"] }
path "kv/data/data-platform/ingress/*" { capabilities = ["create", "read", "update", "patch"] }
path "kv/metadata/data-platform/ingress/*" { capabilities = ["read", "list"] }
