"""The transactional producer, with errors of ours instead of librdkafka's codes.

What belongs here: settings of the producer and what its failures mean. What does not: what is sent
and when it is committed (``capture.py``).

After any error but a full queue the transaction is lost, and so are events that are only in memory:
the error ends the capture, and the next one reads them from the slot again.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from carbon_pipelines.errors import (
    CaptureFencedError,
    EventTooLargeError,
    StreamError,
)
from carbon_pipelines.source.position import format_lsn
from carbon_pipelines.stream.client import client_settings
from carbon_pipelines.stream.topics import LARGEST_EVENT_BYTES, unavailable

PATIENCE_SECONDS = 30.0
"""How long Kafka may not answer before capture ends with an error that may be retried."""
TRANSACTION_TIMEOUT_SECONDS = 120
"""Longer than an open transaction plus our patience: who is told of a timeout as "fenced" would
look for a second process that does not exist."""

_FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)
_CONSEQUENCES = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_SETTINGS = {
    "enable.idempotence": True,
    "transaction.timeout.ms": TRANSACTION_TIMEOUT_SECONDS * 1000,
    "delivery.timeout.ms": TRANSACTION_TIMEOUT_SECONDS * 1000 - 1000,
    "delivery.report.only.error": True,
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 1 << 20,
    "message.max.bytes": LARGEST_EVENT_BYTES,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 96 << 10,
}


class TransactionalProducer:
    """Sends events in Kafka transactions; there is one producer to a transactional id."""

    def __init__(
        self,
        bootstrap: str,
        transactional_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is asked of Kafka yet.

        Args:
            bootstrap: Address of Kafka.
            transactional_id: Of this database's capture.
            clock: Seconds that never go back.
        """
        self._bootstrap, self._id, self._clock = bootstrap, transactional_id, clock
        self._failures: set[int] = set()
        self._largest_failed: Message | None = None
        self._open = False
        self._producer = Producer(
            {
                **_SETTINGS,
                **client_settings(bootstrap),
                "transactional.id": transactional_id,
                "on_delivery": self._on_failed_delivery,
            }
        )
        self._produce = self._producer.produce

    def take_over(self) -> None:
        """End whatever an earlier producer of this id left open, and fence it.

        Only to be called by the process that holds the slot: a healthy one would be fenced too.
        When it returns, no transaction of this id is open and everything committed can be read.

        Raises:
            StreamUnavailableError: Kafka does not answer (retryable).
        """
        try:
            self._producer.init_transactions(PATIENCE_SECONDS)
        except KafkaException as failed:
            raise self._error("initialising transactions", failed.args[0]) from failed

    def send(self, topic: str, value: bytes, key: bytes | None) -> None:
        """Add an event to the open transaction; it is opened by the first one.

        Raises:
            EventTooLargeError: Kafka refuses an event of this size.
            StreamUnavailableError: The queue did not get shorter for ``PATIENCE_SECONDS``.
        """
        if not self._open:
            self._begin()
        try:
            self._produce(topic, value, key, 0)
        except BufferError:
            self._send_when_there_is_room(topic, value, key)
        except KafkaException as failed:
            raise self._refused(failed.args[0], value, key) from failed

    def poll(self) -> None:
        """Serve the client; raises what has become of events in the meantime."""
        self._producer.poll(0)
        self._check_deliveries()

    def commit(self, while_waiting: Callable[[], None]) -> None:
        """Make everything sent so far visible, all of it or nothing.

        Args:
            while_waiting: Called about every second that Kafka takes.

        Raises:
            StreamUnavailableError: Kafka did not confirm it in time (retryable). Whether it counts
                is told by the progress topic, after ``take_over``.
            CaptureFencedError: Another producer has taken over.
        """
        give_up_at = self._clock() + PATIENCE_SECONDS
        while self._open:
            try:
                self._producer.commit_transaction(1.0)
                self._open = False
            except KafkaException as failed:
                error: KafkaError = failed.args[0]
                self._failures.add(error.code())
                self.poll()
                if not error.retriable() or self._clock() > give_up_at:
                    raise self._error("committing a transaction", error) from failed
                while_waiting()

    def close(self) -> None:
        """Give up what is not committed, without waiting for Kafka.

        A client that cannot go on says so once more; whoever asked it for something was told.
        """
        with suppress(KafkaException):
            self._producer.purge()
            self._producer.poll(0)

    def _begin(self) -> None:
        try:
            self._producer.begin_transaction()
        except KafkaException as failed:
            raise self._error("beginning a transaction", failed.args[0]) from failed
        self._open = True

    def _send_when_there_is_room(self, topic: str, value: bytes, key: bytes | None) -> None:
        give_up_at = self._clock() + PATIENCE_SECONDS
        while True:
            self._producer.poll(0.05)
            self._check_deliveries()
            try:
                self._produce(topic, value, key, 0)
            except BufferError as full:
                if self._clock() > give_up_at:
                    error = KafkaError(KafkaError._QUEUE_FULL, str(full))
                    raise self._error("sending events", error) from full
            except KafkaException as failed:
                raise self._refused(failed.args[0], value, key) from failed
            else:
                return

    def _on_failed_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        self._failures.add(error.code())
        if len(message) > len(self._largest_failed or ()):
            self._largest_failed = message

    def _check_deliveries(self) -> None:
        """Raise what has become of events: the broker refuses a whole batch for one of them."""
        failed = self._largest_failed
        if failed is not None:
            cause = min(self._failures, key=lambda code: code in _CONSEQUENCES)
            if KafkaError.MSG_SIZE_TOO_LARGE in self._failures:
                cause = KafkaError.MSG_SIZE_TOO_LARGE
            raise self._refused(KafkaError(cause), failed.value() or b"", failed.key())

    def _refused(self, error: KafkaError, value: bytes, key: bytes | None) -> StreamError:
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return self._error("sending events", error)
        nowhere = {"schema": "carbon", "table": "progress", "lsn": 0}
        source = json.loads(value).get("source", nowhere)
        return EventTooLargeError(
            f"{source['schema']}.{source['table']}",
            lsn=format_lsn(source["lsn"]),
            size_bytes=len(value) + len(key or b""),
            limit=f"{LARGEST_EVENT_BYTES:,} (our limit) or the topic's max.message.bytes",
        )

    def _error(self, doing: str, error: KafkaError) -> StreamError:
        if error.code() in _FENCED:
            return CaptureFencedError(self._bootstrap, self._id)
        return unavailable(self._bootstrap, doing, error)
