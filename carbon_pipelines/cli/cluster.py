"""``carbon cluster``: the services in Kubernetes, planned, applied and looked at.

What belongs here: options, and printing what is planned and done. What does not: decisions
(``cluster``). Only ``apply``, and the others with ``--apply``, change anything.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbon_pipelines.cli.group import cli
from carbon_pipelines.cli.options import DURATION

if TYPE_CHECKING:
    from carbon_pipelines.cluster.api import Cluster
    from carbon_pipelines.cluster.lock import Lock
    from carbon_pipelines.cluster.render import Rendered

Command = Callable[..., Any]

_OVERLAY = click.argument("overlay")
_SERVICE = click.argument("service")
_APPLY = click.option("--apply", "apply_", is_flag=True, help="Do it; without it, only shown.")
_DANGERS = click.option("--accept-dangers", is_flag=True, help="Do what the plan calls dangerous.")
_DEADLINE = click.option(
    "--deadline",
    type=DURATION,
    default="10m",
    show_default=True,
    help="How long a service may take to become ready.",
)


def _where(command: Command) -> Command:
    """Options that say which cluster and which manifests."""
    for option in (
        click.option("--deploy", type=click.Path(path_type=Path, file_okay=False), default=None),
        click.option("--kubeconfig", default=None, help="Else CARBON_CLUSTER_KUBECONFIG."),
        click.option("--context", default=None, help="Else CARBON_CLUSTER_CONTEXT."),
        click.option("--without-charts", is_flag=True, help="Leave out services made by charts."),
    ):
        command = option(command)
    return command


def _open(
    overlay: str,
    *,
    deploy: Path | None,
    kubeconfig: str | None,
    context: str | None,
    without_charts: bool,
) -> tuple["Cluster", "Rendered"]:
    from carbon_pipelines.cluster.settings import cluster_settings

    told = cluster_settings(os.environ)
    told = replace(
        told,
        deploy=deploy or told.deploy,
        kubeconfig=kubeconfig or told.kubeconfig,
        context=context or told.context,
    )
    rendered = told.render(overlay, os.environ, charts=not without_charts)
    return told.open(), rendered


@contextmanager
def _locked(cluster: "Cluster", overlay: str, *, change: bool = False) -> Generator["Lock"]:
    from carbon_pipelines.cluster.lock import locked
    from carbon_pipelines.cluster.settings import who

    with locked(cluster, who(), overlay, change_overlay=change) as lock:
        yield lock


@cli.group()
def cluster() -> None:
    """Plan, apply and look after the services of an overlay in Kubernetes."""


@cluster.command()
@_OVERLAY
@click.option("--service", "services", multiple=True, help="Only these; default: all.")
@_where
def plan(overlay: str, services: tuple[str, ...], **where: Any) -> None:
    """Show what applying OVERLAY would do, by the API server's own dry run. Changes nothing."""
    from carbon_pipelines.cluster.provision import Consent, plan_overlay

    opened, rendered = _open(overlay, **where)
    consent = Consent(take_over=True, change_overlay=True)
    click.echo(plan_overlay(opened, rendered, services or None, consent).describe())


@cluster.command("apply")
@_OVERLAY
@click.option("--service", "services", multiple=True, help="Only these; default: all.")
@_DANGERS
@click.option("--prune", is_flag=True, help="Remove what is no longer declared.")
@click.option("--take-over", is_flag=True, help="Set fields that other managers own.")
@click.option("--change-overlay", is_flag=True, help="The cluster gets another overlay.")
@_DEADLINE
@_where
def apply_overlay(
    overlay: str,
    services: tuple[str, ...],
    *,
    accept_dangers: bool,
    prune: bool,
    take_over: bool,
    change_overlay: bool,
    deadline: timedelta,
    **where: Any,
) -> None:
    """Bring the cluster to OVERLAY: service after service, each ready before the next."""
    from carbon_pipelines.cluster.provision import Consent, provision
    from carbon_pipelines.cluster.wait import Patience

    opened, rendered = _open(overlay, **where)
    consent = Consent(accept_dangers, prune, take_over, change_overlay)
    patience = Patience(deadline=deadline)
    with _locked(opened, overlay, change=change_overlay) as lock:
        provision(opened, rendered, services or None, lock, consent, patience, click.echo)


@cluster.command()
@_OVERLAY
@_where
def status(overlay: str, **where: Any) -> None:
    """Say of each service of OVERLAY whether it is ready, and what the others wait for."""
    from carbon_pipelines.cluster.operations import status_lines

    lines = status_lines(*_open(overlay, **where))
    click.echo("\n".join(lines))
    if any("not ready" in line or "cannot be told" in line for line in lines):
        raise SystemExit(1)


@cluster.command()
@_OVERLAY
@_SERVICE
@_APPLY
@_DANGERS
@_DEADLINE
@_where
def upgrade(
    overlay: str,
    service: str,
    *,
    apply_: bool,
    accept_dangers: bool,
    deadline: timedelta,
    **where: Any,
) -> None:
    """Bring one SERVICE to its manifests; if it does not become ready, put it back."""
    from carbon_pipelines.cluster.operations import gate, upgrade
    from carbon_pipelines.cluster.plan import Choice, make_plan
    from carbon_pipelines.cluster.provision import Consent
    from carbon_pipelines.cluster.wait import Patience

    opened, rendered = _open(overlay, **where)
    if not apply_:
        gate(opened, rendered, service)
        click.echo(make_plan(opened, rendered, Choice([service], alone=True)).describe())
        return
    consent = Consent(accept_dangers=accept_dangers)
    with _locked(opened, overlay) as lock:
        upgrade(opened, rendered, service, lock, consent, Patience(deadline=deadline), click.echo)


@cluster.command()
@_OVERLAY
@_SERVICE
@click.option("--revision", type=int, help="Default: the newest that worked and is not there now.")
@_APPLY
@_DEADLINE
@_where
def rollback(
    overlay: str,
    service: str,
    *,
    revision: int | None,
    apply_: bool,
    deadline: timedelta,
    **where: Any,
) -> None:
    """Put SERVICE back to a state in which it was ready."""
    from carbon_pipelines.cluster.operations import plan_rollback, restore
    from carbon_pipelines.cluster.wait import Patience

    opened, rendered = _open(overlay, **where)
    chosen, planned = plan_rollback(opened, rendered, service, revision)
    click.echo(f"revision {chosen.number}, recorded by {chosen.by}\n{planned.describe()}")
    if apply_:
        with _locked(opened, overlay) as lock:
            restore(opened, rendered, chosen, lock, Patience(deadline=deadline))
        click.echo(f"{service}: revision {chosen.number} is back and ready")


@cluster.command()
@_OVERLAY
@_SERVICE
@_APPLY
@_DEADLINE
@_where
def restart(overlay: str, service: str, *, apply_: bool, deadline: timedelta, **where: Any) -> None:
    """Make the pods of SERVICE anew, one workload after another."""
    from carbon_pipelines.cluster.operations import plan_restart, restart
    from carbon_pipelines.cluster.wait import Patience

    opened, rendered = _open(overlay, **where)
    for manifest in plan_restart(rendered, service):
        click.echo(f"{manifest.label}: its pods are made anew")
    if apply_:
        patience = Patience(deadline=deadline)
        with _locked(opened, overlay) as lock:
            done = restart(opened, rendered, service, lock, patience, datetime.now(UTC))
        click.echo(f"restarted and ready: {', '.join(done)}")


@cluster.command()
@_OVERLAY
@_SERVICE
@click.argument("workload", metavar="KIND/NAME")
@click.argument("pods", type=int)
@_APPLY
@_DANGERS
@_DEADLINE
@_where
def scale(
    overlay: str,
    service: str,
    workload: str,
    pods: int,
    *,
    apply_: bool,
    accept_dangers: bool,
    deadline: timedelta,
    **where: Any,
) -> None:
    """Give a workload of SERVICE another number of PODS until the next provisioning."""
    from carbon_pipelines.cluster.operations import plan_scale, scale
    from carbon_pipelines.cluster.provision import Consent
    from carbon_pipelines.cluster.wait import Patience

    opened, rendered = _open(overlay, **where)
    scaling = plan_scale(rendered, service, workload, pods)
    click.echo(scaling.sentence())
    if apply_:
        consent, patience = Consent(accept_dangers=accept_dangers), Patience(deadline=deadline)
        with _locked(opened, overlay) as lock:
            scale(opened, rendered, scaling, lock, consent, patience)


@cluster.command()
@_OVERLAY
@click.option("--service", "services", multiple=True, help="Only these; default: all.")
@click.option("--delete-data", is_flag=True, help="Also volumes, namespaces and databases.")
@click.option(
    "--backup-to",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("backups"),
    show_default=True,
)
@_APPLY
@_where
def teardown(
    overlay: str,
    services: tuple[str, ...],
    *,
    delete_data: bool,
    backup_to: Path,
    apply_: bool,
    **where: Any,
) -> None:
    """Take services down; a backup comes first, and data stays unless told otherwise."""
    from carbon_pipelines.cluster.teardown import plan_teardown, tear_down

    opened, rendered = _open(overlay, **where)
    planned = plan_teardown(opened, rendered, services or None, delete_data=delete_data)
    click.echo(planned.describe())
    if apply_:
        with _locked(opened, overlay) as lock:
            tear_down(opened, planned, lock, backup_to, click.echo)
