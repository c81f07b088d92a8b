"""What an overlay's pods request fits into its namespaces' quotas and into its budget."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from carbon_pipelines.cluster.figures import count_objects, quantity
from carbon_pipelines_tests.deploy.rendered import render

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OVERLAYS = ("local", "staging", "production")


def cores(text: object) -> float:
    written = str(text)
    return float(written[:-1]) / 1000 if written.endswith("m") else float(written)


def requested(found: dict[str, Any]) -> tuple[float, int]:
    """CPU and bytes that the running pods of an object of ours ask for."""
    if found["kind"] not in {"Deployment", "StatefulSet"}:
        return 0.0, 0
    replicas = found["spec"].get("replicas", 1)
    asked = [
        (container.get("resources") or {}).get("requests") or {}
        for container in found["spec"]["template"]["spec"]["containers"]
    ]
    cpu = sum(cores(one.get("cpu", 0)) for one in asked)
    return replicas * cpu, replicas * sum(quantity(one.get("memory", "0")) for one in asked)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_namespace_fits_into_its_quota(overlay: str) -> None:
    objects = render(DEPLOY / "overlays" / overlay)
    cpu: defaultdict[str, float] = defaultdict(float)
    memory: defaultdict[str, int] = defaultdict(int)
    for found in objects:
        asked = requested(found)
        cpu[found["metadata"].get("namespace", "-")] += asked[0]
        memory[found["metadata"].get("namespace", "-")] += asked[1]
    counts = count_objects(objects)
    quotas = {
        found["metadata"]["namespace"]: found["spec"]["hard"]
        for found in objects
        if found["kind"] == "ResourceQuota"
    }
    for namespace, hard in quotas.items():
        counted = counts[namespace]
        assert cpu[namespace] <= cores(hard["requests.cpu"]), namespace
        assert memory[namespace] <= quantity(hard["requests.memory"]), namespace
        assert counted.volume_bytes <= quantity(hard["requests.storage"]), namespace
        assert counted.pods <= int(hard["pods"]), namespace
        assert counted.volumes <= int(hard["persistentvolumeclaims"]), namespace
    budget = yaml.safe_load((DEPLOY / "overlays" / overlay / "overlay.yaml").read_text())["budget"]
    assert sum(cpu.values()) <= cores(budget["cpu"])
    assert sum(memory.values()) <= quantity(budget["memory"])
    assert sum(c.volume_bytes for c in counts.values()) <= quantity(budget["storage"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_lists_what_it_renders(overlay: str) -> None:
    declared = yaml.safe_load((DEPLOY / "overlays" / overlay / "overlay.yaml").read_text())
    rendered = {
        found["metadata"].get("labels", {}).get("carbon-pipelines/service")
        for found in render(DEPLOY / "overlays" / overlay)
    } - {None}
    assert rendered <= set(declared["services"])
    charts = {path.parent.name for path in DEPLOY.glob("*/*/chart.yaml")}
    assert set(declared["services"]) - rendered <= charts
