"""DataHub: what we know of every table, its columns' lineage, its scores and runs, told to others.

What belongs here: what is told (``describe.py`` and what it calls, pure), what of it DataHub lacks
(``plan.py``, pure), and telling it (``server.py``, ``emit.py``). What does not: making any of it.

We write the wire format ourselves: the client of DataHub, ``acryl-datahub``, would bring 25
packages along, two of which tell others about their users. Tests hold every aspect to its models.
"""
