"""cluster: the services around the lakehouse, as they should be in Kubernetes and how to get there.

What belongs here: which services there are and who talks to whom (``service.py``, ``load.py``,
``graph.py``), and what follows from that. What does not: manifests (``deploy/``), the same services
on one machine (``embedded``), and anything of Dagster (``defs/cluster``).
"""
