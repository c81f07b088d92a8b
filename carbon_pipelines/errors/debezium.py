"""Errors of databases that a Debezium connector captures.

What belongs here: classes and their sentences, as ``errors/__init__.py`` says for all of them; they
are imported from here.

StreamError
├── CapturedByDebeziumError           our own capture was asked to read a connector's slot
├── ConnectorBehindError              (retryable) the connector did not pass the marker in time
├── ConnectorRecreatedError           the connector lost its offsets: events cannot be placed
├── ConnectorSlotLostError            the connector's slot is gone: changes are missing
├── UnreadableValueError              a value is not one of its column's type
├── UntoldValueError                  a NULL may be a large value that an update left alone
├── ShapeUnknownError                 (retryable) a row fits no recorded shape of its table
└── TopicPartitionedError             a table's topic has several partitions
"""

from carbon_pipelines.errors.capture import StreamError


class CapturedByDebeziumError(StreamError):
    """``database`` is declared ``capture: debezium``, so our own capture does not read its slot."""

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(
            f"Database {database} is declared with capture: debezium, so its slot is read by a "
            f"Debezium connector and not by us. Nothing was captured. Run the connector "
            f'("carbon debezium config {database}" prints its configuration), or declare '
            f"capture: native."
        )


class ConnectorBehindError(StreamError):
    """The connector acknowledged ``reached`` but not ``wanted`` (LSN text) within ``seconds``."""

    retryable = True

    def __init__(
        self, database: str, slot: str, *, wanted: str, reached: str, seconds: float, holder: str
    ) -> None:
        self.database, self.slot, self.wanted, self.reached = database, slot, wanted, reached
        self.seconds, self.holder = seconds, holder
        super().__init__(
            f"The Debezium connector of database {database} has acknowledged slot {slot} up to "
            f"{reached} and not up to {wanted} after {seconds:.0f} s; {holder}. What Kafka holds "
            f"is merged by later runs. See the connector's status and log; "
            f'"carbon debezium config {database}" prints the configuration it should have.'
        )


class ConnectorRecreatedError(StreamError):
    """The event at ``offset`` of ``topic`` does not say which commit it follows."""

    def __init__(self, topic: str, offset: int, table: str) -> None:
        self.topic, self.offset, self.table = topic, offset, table
        super().__init__(
            f"The event at {topic}[0]@{offset} is from a connector that started without its stored "
            f"offsets, so it cannot be told whether {table} has it already. Nothing of its batch "
            f'was applied. Run "carbon recopy {table}", and keep the name and the offsets of the '
            f"connector from now on."
        )


class ConnectorSlotLostError(StreamError):
    """The slot that a connector's events came from has lost changes; ``reason`` says how."""

    def __init__(self, database: str, slot: str, *, reason: str) -> None:
        self.database, self.slot, self.reason = database, slot, reason
        super().__init__(
            f"Slot {slot}, which the Debezium connector of database {database} reads, has lost "
            f"changes ({reason}). Nothing was merged, and the slot was left as it is. Stop the "
            f"connector and delete its offsets, drop the slot if it is still there, run "
            f'"carbon start-over {database}", and start the connector when that waits for it.'
        )


class UnreadableValueError(StreamError):
    """A value at ``offset`` of ``topic`` cannot be read as its column's PostgreSQL type."""

    def __init__(
        self, topic: str, offset: int, *, column: str, type_name: str, reason: str, remedy: str
    ) -> None:
        self.topic, self.offset, self.column, self.type_name = topic, offset, column, type_name
        self.reason, self.remedy = reason, remedy
        super().__init__(
            f"Column {column} ({type_name}) of the event at {topic}[0]@{offset} cannot be read: "
            f"{reason}. Nothing from this batch was applied. {remedy}"
        )


class UntoldValueError(StreamError):
    """A NULL at ``offset`` of ``topic`` may be a large value that an update left alone."""

    def __init__(self, topic: str, offset: int, *, column: str, type_name: str, table: str) -> None:
        self.topic, self.offset, self.column, self.type_name = topic, offset, column, type_name
        self.table = table
        super().__init__(
            f"Column {column} ({type_name}) of the update at {topic}[0]@{offset} is NULL, and "
            f"Debezium writes NULL in this type also for a large value that the update left alone, "
            f"so the value is not known. Nothing from this batch was applied. Set the table to "
            f"REPLICA IDENTITY FULL, or declare the column protect: drop, and run "
            f'"carbon recopy {table}".'
        )


class ShapeUnknownError(StreamError):
    """An event of ``topic`` has other columns than the newest recorded shape of its table."""

    retryable = True

    def __init__(
        self, topic: str, offset: int, *, missing: tuple[str, ...], added: tuple[str, ...]
    ) -> None:
        self.topic, self.offset, self.missing, self.added = topic, offset, missing, added
        told = [
            f"{what} {', '.join(names)}"
            for what, names in (("lacks", missing), ("has also", added))
            if names
        ]
        super().__init__(
            f"The event at {topic}[0]@{offset} {' and '.join(told)}, and no recorded shape of its "
            f"table fits. Nothing from this batch was applied. The record of the change may be on "
            f"its way; if a retry does not help, see that the connector captures "
            f"carbon.ddl_history and every column that is not declared protect: drop."
        )


class TopicPartitionedError(StreamError):
    """Topic ``topic`` has ``partitions`` partitions; the order of changes spans them."""

    def __init__(self, topic: str, partitions: int) -> None:
        self.topic, self.partitions = topic, partitions
        super().__init__(
            f"Topic {topic} has {partitions} partitions. A changed key moves a row from one to "
            f"another, and their order is lost, so a table's topic needs exactly one. Nothing was "
            f"read. Stop the connector, delete the topic, let "
            f'"carbon sync" create it with one partition, then run "carbon recopy".'
        )
