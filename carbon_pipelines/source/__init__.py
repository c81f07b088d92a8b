"""PostgreSQL: slot, publications, DDL history, source snapshots and the first copy's reader.

What belongs here: everything that talks to a source database, and the values it answers with. What
does not: decoding the replication stream (``stream``) and what becomes of rows (``lake``).
"""
