"""Asking Kafka for offsets while a broker takes its partitions over."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from carbon_pipelines.errors import TopicRefusedError
from carbon_pipelines.stream import topics
from carbon_pipelines.stream.topics import ensure_topics, load_offsets
from carbon_pipelines_tests.integration.streaming import declare, table

PARTITION = TopicPartition("cdc.market.public.trade", 0)


class Broker:
    """Answers with what it is given, one after the other."""

    def __init__(self, *answers: int):
        self.answers = list(answers)

    def list_offsets(self, wanted, **_):
        return dict.fromkeys(wanted, self._answer())

    def list_topics(self, **_):
        return SimpleNamespace(topics={})

    def create_topics(self, wanted, **_):
        return {topic.topic: self._answer() for topic in wanted}

    def _answer(self):
        answer, future = self.answers.pop(0), Future()
        if answer > 0:
            future.set_exception(KafkaException(KafkaError(answer)))
        else:
            future.set_result(SimpleNamespace(offset=-answer))
        return future


def test_a_broker_that_takes_a_partition_over_is_asked_again():
    broker = Broker(KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION, -7)
    assert load_offsets(broker, {PARTITION: OffsetSpec.latest()}) == {PARTITION: 7}
    assert not broker.answers


def test_an_error_that_does_not_pass_is_raised_at_once():
    broker = Broker(KafkaError.TOPIC_AUTHORIZATION_FAILED, -7)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        load_offsets(broker, {PARTITION: OffsetSpec.latest()})
    assert broker.answers == [-7]


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch):
    """Creates the three topics of a database with one table; each answer is one topic's."""

    def create(broker: Broker) -> tuple[str, ...]:
        monkeypatch.setattr(topics, "open_admin", lambda _: broker)
        monkeypatch.setattr(topics, "_wait_until_readable", lambda *_: None)
        return ensure_topics("", declare("market", table("trade", "id")))

    return create


def test_topics_are_asked_for_again_while_a_controller_waits_for_its_brokers(create):
    fenced, moving = KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.NOT_CONTROLLER
    there = KafkaError.TOPIC_ALREADY_EXISTS
    broker = Broker(fenced, 0, moving, fenced, there, 0)

    created = create(broker)

    assert created == ("cdc.market.carbon.ddl_history", "cdc.market.public.trade")
    assert not broker.answers


def test_a_topic_that_the_cluster_does_not_allow_is_refused_at_once(create):
    with pytest.raises(TopicRefusedError, match="POLICY_VIOLATION"):
        create(Broker(KafkaError.POLICY_VIOLATION, 0, 0))
