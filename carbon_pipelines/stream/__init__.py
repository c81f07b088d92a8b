"""Kafka: from the slot's WAL to topics of change events, and from topics to batches.

What belongs here: names and existence of topics, the envelope, the capture loop and its progress,
and reading topics. What does not: setting up PostgreSQL (``source``) and what becomes of an event
(``lake``).
"""
