"""Stage ``cluster``: the services around the lakehouse in Kubernetes."""
