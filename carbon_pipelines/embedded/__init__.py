"""The same services as local processes, without Docker: PostgreSQL, Kafka, S3, Trino on request.

What belongs here: where services are (``endpoints``), and starting, proving and stopping the local
ones (``stack``). What does not: anything that knows a table, a topic or a row.
"""
