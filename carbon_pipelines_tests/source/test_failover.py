from dataclasses import replace

from carbon_pipelines.source.failover import FailoverFacts, failover_advice

FACTS = FailoverFacts(180_004, "carbon_market", True, ("standby_a",), ("a",), ("a",))  # noqa: FBT003


def words(**changes: object) -> str:
    return " / ".join(failover_advice(replace(FACTS, **changes)))


def test_nothing_is_advised_where_the_slot_is_kept_or_there_is_no_standby() -> None:
    assert failover_advice(FACTS) == ()
    assert words(failover=False, standbys=(), standby_slots=(), version=150_000) == ""


def test_each_thing_that_a_failover_would_lose_the_slot_by_is_named() -> None:
    assert "copied anew" in words(version=160_000)
    assert "ALTER_REPLICATION_SLOT carbon_market (FAILOVER true)" in words(failover=False)
    assert "sync_replication_slots = on" in words(standby_slots=(), synchronized=())
    assert "does not name b" in words(standby_slots=("a", "b"))
