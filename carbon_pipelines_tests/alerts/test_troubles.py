from carbon_pipelines.alerts.memory import Memory, decode_memory, encode_memory
from carbon_pipelines.alerts.observed import Scored
from carbon_pipelines.alerts.pages import Pages
from carbon_pipelines.alerts.routing import make_routing
from carbon_pipelines.alerts.runs import Failing
from carbon_pipelines.alerts.scores import ScoreMark
from carbon_pipelines.alerts.sending import Refusal, Sent
from carbon_pipelines.alerts.telling import Known, Receipt
from carbon_pipelines.alerts.troubles import (
    ASK_AGAIN_SECONDS,
    TOLD_AFTER_SECONDS,
    Trouble,
    asked_now,
    fold_troubles,
    still_waited_for,
    trouble_alerts,
)
from carbon_pipelines.catalog.owners import OwnersSpec, ReceiverSpec
from carbon_pipelines_tests.alerts.saying import alert, message

LATER = Refusal("it answered 503")
NO = Refusal("it answered 404", lasting=True)


def test_a_receiver_that_accepts_something_has_no_old_trouble() -> None:
    before = {"r": Trouble(0.0, "it answered 503", lasting=False, ask_at=0.0)}

    assert fold_troubles(before, Sent((message("r"),)), now=900.0) == {}
    some = fold_troubles(before, Sent((message("r"),), {"r": LATER}), now=900.0)
    assert some == {"r": Trouble(900.0, "it answered 503", lasting=False, ask_at=900.0)}
    none = fold_troubles(before, Sent((), {"r": LATER}), now=900.0)
    assert none == {"r": Trouble(0.0, "it answered 503", lasting=False, ask_at=900.0)}


def test_a_final_no_is_asked_again_after_a_while_and_a_pause_is_kept() -> None:
    troubles = fold_troubles({}, Sent((), {"no": NO}), now=0.0)
    assert troubles["no"].ask_at == ASK_AGAIN_SECONDS
    assert asked_now(("no", "other"), troubles, now=ASK_AGAIN_SECONDS - 1) == {"other"}
    assert asked_now(("no", "other"), troubles, now=ASK_AGAIN_SECONDS) == {"no", "other"}
    paused = Refusal("it answered 429", retry_after_seconds=3_600.0)
    assert fold_troubles({}, Sent((), {"r": paused}), now=0.0)["r"].ask_at == 3_600.0


def test_others_are_told_of_a_no_at_once_and_of_silence_after_a_while() -> None:
    troubles = fold_troubles({}, Sent((), {"no": NO, "silent": LATER}), now=0.0)

    def named(now: float) -> set[str]:
        alerts = trouble_alerts(troubles, Pages(), now=now).values()
        return {one.labels["receiver"] for one in alerts}

    assert named(30.0) == {"no"}
    assert named(TOLD_AFTER_SECONDS) == {"no", "silent"}


def test_a_trouble_that_nothing_waits_for_is_forgotten() -> None:
    trouble = Trouble(0.0, "it answered 404", lasting=True, ask_at=0.0)
    owed = Known(alert(), owed=frozenset({"a"}))
    over = Known(alert(), {"b": Receipt(1.0, "w", 1.0)}, ended_at=2.0)
    told = Known(alert(), {"c": Receipt(1.0, "w", 1.0)})

    left = still_waited_for(dict.fromkeys("abc", trouble), {"1": owed, "2": over, "3": told})

    assert set(left) == {"a", "b"}


def test_everybody_is_told_what_a_team_cannot_be() -> None:
    slack = ReceiverSpec(kind="slack", url_variable="MISSING", severities=("critical",))
    owners = OwnersSpec(
        default=(ReceiverSpec(kind="slack", url_variable="ALL"),), teams={"team:a": (slack,)}
    )
    routing = make_routing(owners, {"ALL": "https://all"})
    whole = make_routing(owners, {"ALL": "https://all", "MISSING": "https://a"})

    assert routing.missing == {"slack:MISSING": ("MISSING",)}
    assert routing.routes(alert()) == ("slack:ALL",)
    assert whole.routes(alert()) == ("slack:MISSING",)
    assert whole.routes(alert(severity="warning")) == ("slack:ALL",)
    assert whole.routes(alert(team="team:other")) == ("slack:ALL",)
    assert "https" not in repr(whole)


def test_a_memory_is_read_as_it_was_written() -> None:
    scored = Scored(4, 3.0, 80.0, {"validity": 70.0}, {"between(x)": 20.0}, "80 of 100", "run")
    memory = Memory(
        until=7.5,
        seen={"run": 6.5},
        failing={"asset:a": Failing({"asset": "a"}, "It broke.", 1.0, 2.0, "run")},
        marks={"quality/a/b": ScoreMark(4, 5, scored, scored, 3.0), "quality/a/c": ScoreMark(1, 1)},
        never={"lake/a/b": 1.0},
        known={"f": Known(alert(), {"r": Receipt(1.0, "w", 2.0)}, frozenset({"s"}), 3.0)},
        troubles={"r": Trouble(1.0, "it answered 404", lasting=True, ask_at=2.0)},
    )

    assert decode_memory(encode_memory(memory)) == memory
    assert decode_memory(None) == decode_memory("1 of another format") == Memory()
