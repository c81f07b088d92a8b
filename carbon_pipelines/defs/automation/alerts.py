"""The sensor ``alerts``: looks at everything, and tells people what changed.

What belongs here: when it is evaluated, and what its page says. What does not: reading the instance
(``alert_reading.py``), and deciding and sending (``carbon_pipelines/alerts``).

It asks for no runs: what is wrong is told, not mended. One sensor for all, for what it reads is
read for all at once, and what it told is in one place.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import dagster as dg

from carbon_pipelines.alerts.delivery import make_deliver
from carbon_pipelines.alerts.evaluation import Evaluated, evaluate
from carbon_pipelines.alerts.memory import decode_memory, encode_memory
from carbon_pipelines.alerts.pages import pages_of
from carbon_pipelines.alerts.routing import Routing, make_routing
from carbon_pipelines.alerts.sending import Sent, send
from carbon_pipelines.alerts.telling import Message
from carbon_pipelines.catalog.load import Catalog
from carbon_pipelines.defs.automation.alert_reading import read_instance
from carbon_pipelines.defs.automation.alert_subjects import watch
from carbon_pipelines.defs.failures import as_failure

INTERVAL_SECONDS = 30

Clock = Callable[[], datetime]


def alerts(catalog: Catalog, *, running: bool) -> dg.Definitions:
    """The sensor; ``running`` as for the other automations."""
    return dg.Definitions(sensors=[alerts_sensor(catalog, running=running)])


def alerts_sensor(
    catalog: Catalog,
    *,
    running: bool,
    environ: Mapping[str, str] = os.environ,
    clock: Clock = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> dg.SensorDefinition:
    """The sensor; secrets are read from ``environ`` at each evaluation and kept nowhere."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING
        if running
        else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Tells the owners of tables what fails, stands, lacks or is stale, once, and once more "
            "when it is over."
        ),
    )
    def told(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        repository = context.repository_def
        assert repository is not None, "a sensor of a code location is evaluated with it"
        now = clock()
        with as_failure():
            routing, pages = make_routing(catalog.owners, environ), pages_of(environ)
            subjects = watch(repository, catalog)
            before = decode_memory(context.cursor)
            reading = read_instance(context.instance, subjects, before, now)
            deliver = make_deliver(routing.receivers, pages, clock=lambda: clock().timestamp())
            sending: Callable[[Sequence[Message]], Sent] = partial(
                send, deliver=deliver, sleep=sleep
            )
            done = evaluate(reading.look, reading.memory, routing, pages, sending)
        _log(context, done, routing)
        return dg.SensorResult(skip_reason=done.sentence(), cursor=encode_memory(done.memory))

    return told


def _log(context: dg.SensorEvaluationContext, done: Evaluated, routing: Routing) -> None:
    for message in done.sent.accepted:
        alert = message.alert
        context.log.info(
            "%s was told: %s %s %s", message.receiver, message.status, alert.name, alert.about
        )
    for name, refusal in done.sent.refused.items():
        context.log.error(
            "%s did not accept what it was sent: %s. It is sent again at the next evaluations; "
            '"carbon alerts test --send" tries it by hand.',
            name,
            refusal.reason,
        )
    if done.untold:
        lacking = sorted({name for names in routing.missing.values() for name in names})
        what = f"set {', '.join(lacking)}" if lacking else "write owners.yaml (docs/alerts.md)"
        context.log.warning("%d alerts are told to nobody: %s.", done.untold, what)
