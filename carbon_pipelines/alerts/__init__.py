"""Alerts that people get: what is wrong, who is told, and that it is told once.

What belongs here: alerts as values, who receives which, what a receiver is sent, and the sending.
What does not: looking at Dagster (``defs/automation/alerts.py``) and declaring receivers
(``catalog/owners.py``).
"""
