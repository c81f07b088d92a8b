# Takes snapshots; reads nothing else.
path "sys/storage/raft/snapshot" { capabilities = ["read"] }
