# What the ClusterSecretStore may copy: the namespaces that it is open to, and nothing that may write.
path "kv/data/data-platform/*" { capabilities = ["read"] }
path "kv/metadata/data-platform/*" { capabilities = ["read", "list"] }
path "kv/data/monitoring/*" { capabilities = ["read"] }
path "kv/metadata/monitoring/*" { capabilities = ["read", "list"] }
path "kv/data/registry/*" { capabilities = ["read"] }
path "kv/metadata/registry/*" { capabilities = ["read", "list"] }
