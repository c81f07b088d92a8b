"""The promises of telling, over any history of alerts, receivers that fail, and lost memories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.alerts.alert import Alert
from carbon_pipelines.alerts.telling import (
    CHANGE_WAIT_SECONDS,
    Known,
    Message,
    apply_receipts,
    plan_messages,
)
from carbon_pipelines_tests.alerts.saying import alert

ASSETS = ("a", "b", "c")
RECEIVERS = ("one", "two")


def routes(told: Alert) -> tuple[str, ...]:
    return RECEIVERS if told.labels["asset"] != "b" else RECEIVERS[:1]


@dataclass(slots=True)
class Inbox:
    """What one receiver accepted, in order."""

    messages: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """A world of alerts that begin and end, and receivers that accept or not."""

    now: float = 1_000.0
    since: dict[str, float] = field(default_factory=dict)
    known: Mapping[str, Known] = field(default_factory=dict)
    inboxes: dict[str, Inbox] = field(default_factory=lambda: {name: Inbox() for name in RECEIVERS})

    def flip(self, asset: str) -> None:
        if asset in self.since:
            del self.since[asset]
        else:
            self.since[asset] = self.now

    def evaluate(self, down: frozenset[str] = frozenset(), *, forgets: bool = False) -> None:
        firing = {
            one.fingerprint: one for one in (alert(a, since=at) for a, at in self.since.items())
        }
        plan = plan_messages(firing, self.known, routes, now=self.now)
        accepted = [message for message in plan.messages if message.receiver not in down]
        for message in accepted:
            self.inboxes[message.receiver].messages.append(message)
        if not forgets:
            self.known = apply_receipts(plan, accepted, now=self.now)
        self.now += 30


STEPS = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from(ASSETS)),
        st.frozensets(st.sampled_from(RECEIVERS)),
    ),
    max_size=12,
)


@given(STEPS)
def test_no_alert_is_lost_none_is_told_twice_and_each_is_over_once(
    steps: list[tuple[frozenset[str], frozenset[str]]],
) -> None:
    world = History()
    episodes: dict[tuple[str, float], bool] = {}
    for flipped, down in steps:
        for asset in flipped:
            if asset in world.since:
                episodes[asset, world.since[asset]] = False
            world.flip(asset)
            if asset in world.since:
                episodes[asset, world.since[asset]] = True
        world.evaluate(down)
    world.evaluate()

    for name, inbox in world.inboxes.items():
        told: dict[str, list[Message]] = {}
        for message in inbox.messages:
            told.setdefault(message.alert.labels["asset"], []).append(message)
        # nothing is told twice
        assert len({message.key for message in inbox.messages}) == len(inbox.messages)
        for asset in ASSETS if name == "one" else ("a", "c"):
            said = told.get(asset, [])
            # what fires now is what was said last, and of nothing that is over it is left open
            fires = asset in world.since
            assert bool(said and said[-1].status == "firing") == fires
            # an end is said once for each time that something was open, or never was told
            for before, after in pairwise(said):
                assert (before.status, after.status) != ("resolved", "resolved") or (
                    before.alert.since < after.alert.since
                )
            # the newest episode is known, whatever became of it
            mine = [since for known, since in episodes if known == asset]
            assert not mine or said[-1].alert.since == max(mine)
    world.evaluate()
    later = [len(inbox.messages) for inbox in world.inboxes.values()]
    world.evaluate()
    assert [len(inbox.messages) for inbox in world.inboxes.values()] == later


@given(STEPS, st.integers(0, 11))
def test_a_memory_that_was_not_written_repeats_only_the_same_keys(
    steps: list[tuple[frozenset[str], frozenset[str]]], lost: int
) -> None:
    world = History()
    for number, (flipped, down) in enumerate(steps):
        for asset in flipped:
            world.flip(asset)
        before = {name: len(inbox.messages) for name, inbox in world.inboxes.items()}
        world.evaluate(down, forgets=number == lost)
        if number == lost:
            sent = {
                name: [message.key for message in inbox.messages[before[name] :]]
                for name, inbox in world.inboxes.items()
            }
            world.now -= 30
            world.evaluate(down)
            again = {
                name: [message.key for message in inbox.messages[before[name] + len(sent[name]) :]]
                for name, inbox in world.inboxes.items()
            }
            assert again == sent


def tell(firing: list[Alert], known: Mapping[str, Known], now: float) -> Mapping[str, Known]:
    plan = plan_messages({one.fingerprint: one for one in firing}, known, routes, now=now)
    return apply_receipts(plan, plan.messages, now=now)


def test_other_words_are_told_at_most_once_an_hour() -> None:
    known = tell([alert("a")], {}, 0.0)
    changed = alert("a", summary="It is very late.")
    firing = {changed.fingerprint: changed}

    soon = plan_messages(firing, known, routes, now=CHANGE_WAIT_SECONDS - 1)
    later = plan_messages(firing, known, routes, now=CHANGE_WAIT_SECONDS)

    assert soon.messages == ()
    assert later.messages == (Message("one", changed), Message("two", changed))


def test_who_forgets_is_reminded_in_time_and_told_of_the_end() -> None:
    known = tell([alert("a")], {}, 0.0)
    firing = {alert("a").fingerprint: alert("a")}

    def sent(now: float) -> tuple[Message, ...]:
        return plan_messages(firing, known, routes, now=now, reminded={"one": 60.0}).messages

    assert sent(59.0) == ()
    assert sent(60.0) == (Message("one", alert("a")),)
    over = plan_messages({}, known, routes, now=60.0, reminded={"one": 60.0}).messages
    assert over == (Message("one", alert("a"), 60.0), Message("two", alert("a"), 60.0))


def test_what_was_over_before_it_could_be_told_is_told_as_over() -> None:
    firing = {alert("a").fingerprint: alert("a")}
    untold = apply_receipts(plan_messages(firing, {}, routes, now=0.0), (), now=0.0)

    plan = plan_messages({}, untold, routes, now=30.0)

    assert plan.messages == (Message("one", alert("a"), 30.0), Message("two", alert("a"), 30.0))
    assert apply_receipts(plan, plan.messages, now=30.0) == {}


def test_an_alert_keeps_its_start_while_it_fires() -> None:
    known = tell([alert("a", since=10.0)], {}, 20.0)
    moved = alert("a", since=40.0)

    plan = plan_messages({moved.fingerprint: moved}, known, routes, now=50.0)

    assert plan.messages == ()
    assert plan.known[moved.fingerprint].alert.since == 10.0


def test_who_was_told_is_told_the_end_even_if_the_alert_goes_elsewhere_by_then() -> None:
    known = tell([alert("a")], {}, 0.0)
    over = apply_receipts(plan_messages({}, known, routes, now=30.0), (), now=30.0)
    again = alert("a", since=2_000.0)
    firing = {again.fingerprint: again}

    moved = plan_messages(firing, over, lambda _alert: ("three",), now=60.0)
    later = apply_receipts(moved, moved.messages, now=60.0)

    assert moved.messages == (Message("three", again),)
    told = plan_messages({}, later, lambda _alert: ("three",), now=90.0).messages
    assert [message.receiver for message in told] == ["one", "three", "two"]


def test_a_receiver_that_is_there_no_more_is_not_waited_for() -> None:
    known = tell([alert("a")], {}, 0.0)

    plan = plan_messages({}, known, routes, now=30.0, reachable=("two",))

    assert plan.messages == (Message("two", alert("a"), 30.0),)
    assert apply_receipts(plan, plan.messages, now=30.0) == {}
