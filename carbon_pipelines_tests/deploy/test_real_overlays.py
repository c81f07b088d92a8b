"""Every overlay of ``deploy/overlays``, provisioned whole on a control plane of its own.

What is not real here: kinds of charts that no package registry holds are defined so that they
accept any field, operators are stood in for, and services made by such charts are left out. The
test says which, and fails if a service is left out that has no chart.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from carbon_pipelines.cluster.api import Cluster, connect
from carbon_pipelines.cluster.load import load_graph, service_files
from carbon_pipelines.cluster.lock import locked
from carbon_pipelines.cluster.overlay import load_overlay, overlay_names
from carbon_pipelines.cluster.provision import Consent, plan_overlay, provision
from carbon_pipelines.cluster.render import Rendered, render, service_folder
from carbon_pipelines.cluster.tools import Tools
from carbon_pipelines.cluster.wait import Patience
from carbon_pipelines_tests.deploy.control_plane import control_plane
from carbon_pipelines_tests.deploy.operators import define_kinds, stand_in_operators
from carbon_pipelines_tests.deploy.programs import Programs

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
PATIENCE = Patience(deadline=timedelta(seconds=90), stuck=timedelta(seconds=20))


@pytest.fixture
def empty(programs: Programs) -> Iterator[Cluster]:
    """A connection to an empty cluster."""
    with control_plane(programs) as plane:
        yield connect(str(plane.kubeconfig))


@pytest.mark.skipif(not service_files(DEPLOY), reason="deploy/ declares no service yet")
@pytest.mark.parametrize("overlay", overlay_names(DEPLOY))
def test_an_overlay_is_provisioned_and_needs_nothing_more(
    overlay: str, empty: Cluster, tools: Tools, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, graph = load_overlay(DEPLOY, overlay), load_graph(DEPLOY)
    rendered = render(DEPLOY, spec, graph, tools, charts=False)
    assert_only_charts_are_left_out(rendered, spec.services)
    lent = define_kinds(empty, rendered)
    said: list[str] = []
    with stand_in_operators(empty, rendered), locked(empty, "test", overlay) as lock:
        provision(empty, rendered, None, lock, Consent(), PATIENCE, said.append)
        again = plan_overlay(empty, rendered, None, Consent())
    assert again.empty, again.describe()
    with capsys.disabled():
        objects, count = len(list(rendered.manifests)), len(rendered.services)
        print(f"\n{overlay}: {objects} objects of {count} services")  # noqa: T201
        print(f"  kinds that accept any field: {', '.join(lent) or 'none'}")  # noqa: T201
        print(f"  left out: {', '.join(rendered.without_chart) or 'none'}")  # noqa: T201


def assert_only_charts_are_left_out(rendered: Rendered, listed: tuple[str, ...]) -> None:
    """A service without an object is one made by a chart, and named as such."""
    missing = {*listed} - {*rendered.services}
    charts = {name for name in listed if (service_folder(DEPLOY, name) / "chart.yaml").exists()}
    assert missing <= charts
    assert {*rendered.without_chart} == charts
