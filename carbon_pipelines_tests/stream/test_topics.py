"""Asking Kafka for offsets while a broker takes its partitions over."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from carbon_pipelines.stream.topics import load_offsets

PARTITION = TopicPartition("cdc.market.public.trade", 0)


class Broker:
    """Answers with what it is given, one after the other."""

    def __init__(self, *answers: int):
        self.answers = list(answers)

    def list_offsets(self, wanted, **_):
        answer, future = self.answers.pop(0), Future()
        if answer > 0:
            future.set_exception(KafkaException(KafkaError(answer)))
        else:
            future.set_result(SimpleNamespace(offset=-answer))
        return dict.fromkeys(wanted, future)


def test_a_broker_that_takes_a_partition_over_is_asked_again():
    broker = Broker(KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION, -7)
    assert load_offsets(broker, {PARTITION: OffsetSpec.latest()}) == {PARTITION: 7}
    assert not broker.answers


def test_an_error_that_does_not_pass_is_raised_at_once():
    broker = Broker(KafkaError.TOPIC_AUTHORIZATION_FAILED, -7)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        load_offsets(broker, {PARTITION: OffsetSpec.latest()})
    assert broker.answers == [-7]
