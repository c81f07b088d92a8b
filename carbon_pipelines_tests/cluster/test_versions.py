"""Every image and chart is listed by version; what has ended says why it is still there."""

from pathlib import Path

import pytest
import yaml

from carbon_pipelines.cluster.load import load_graph
from carbon_pipelines.cluster.versions import load_versions
from carbon_pipelines.errors import DeclarationError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RIGHT = """\
components:
  loki:
    kind: image
    name: docker.io/grafana/loki
    version: 3.7.8
    digest: unknown
    licence: AGPL-3.0
    status: alive
    seen: Go module proxy
"""


def written(directory: Path, text: str) -> Path:
    (directory / "versions.yaml").write_text(text)
    return directory


def images(node: object) -> set[str]:
    """What stands under ``image`` or ``imageName`` anywhere in an object."""
    if isinstance(node, dict):
        own = {v for k, v in node.items() if k in {"image", "imageName"} and isinstance(v, str)}
        return own.union(*map(images, node.values())) if node else own
    if isinstance(node, list):
        return set().union(*map(images, node))
    return set()


def test_an_image_is_named_with_its_digest_where_that_is_known(tmp_path: Path) -> None:
    digest = "sha256:" + "0a" * 32
    found = load_versions(written(tmp_path, RIGHT.replace("unknown", digest)))
    assert found["loki"].reference == f"docker.io/grafana/loki:3.7.8@{digest}"
    found = load_versions(written(tmp_path, RIGHT))
    assert found["loki"].reference == "docker.io/grafana/loki:3.7.8"


@pytest.mark.parametrize(
    ("right", "wrong", "line", "reason"),
    [
        ("status: alive", "status: ended", 8, "loki: status: what ended says since when"),
        ("digest: unknown", "digest: sha256:12", 6, 'loki: digest: must be .*not "sha256:12"'),
        ("version: 3.7.8", "version: latest", 5, "loki: version: must be a version"),
        ("version: 3.7.8", "version: operator-latest", 5, "loki: version: must be a version"),
        ("kind: image", "kind: chart", 6, "loki: digest: is what images have"),
        ("licence:", "license:", 7, '"license" is not a field; did you mean "licence"'),
        ("    seen: Go module proxy\n", "", 2, '"seen" is missing'),
    ],
)
def test_a_mistake_is_named_with_its_line(
    tmp_path: Path, right: str, wrong: str, line: int, reason: str
) -> None:
    assert right in RIGHT
    with pytest.raises(DeclarationError, match=rf"versions\.yaml:{line}: .*{reason}"):
        load_versions(written(tmp_path, RIGHT.replace(right, wrong)))


def test_a_file_without_components_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DeclarationError, match=r'"images" is not a field.*\n.*"components" is miss'
    ):
        load_versions(written(tmp_path, "images: {}\n"))


def test_no_manifest_names_an_image_that_is_not_listed() -> None:
    listed = {found.reference for found in load_versions(DEPLOY).values() if found.kind == "image"}
    named = {
        (image, path.relative_to(DEPLOY).as_posix())
        for place in ("base", "components", "operators", "overlays")
        for path in (DEPLOY / place).rglob("*.yaml")
        if path.name not in {"values.yaml", "service.yaml", "chart.yaml", "kind.yaml"}
        for document in yaml.load_all(path.read_text(), Loader=LOADER)
        for image in images(document)
    }
    assert {(image, path) for image, path in named if image not in listed} == set()


def test_no_service_uses_what_has_ended_without_a_reason() -> None:
    versions = load_versions(DEPLOY)
    graph = load_graph(DEPLOY)
    unknown = {
        (service.name, name)
        for service in graph.services
        for name in service.versions
        if name not in versions
    }
    assert unknown == set()
    ended = {
        name for service in graph.services for name in service.versions if versions[name].ended
    }
    # The owner named MinIO, and an overlay may choose it; see docs/cluster.
    assert ended <= {"minio", "minio-client"}


def test_every_chart_is_the_version_that_is_listed() -> None:
    listed = {
        (found.repository, found.name, found.version)
        for found in load_versions(DEPLOY).values()
        if found.kind == "chart"
    }
    charts = [yaml.safe_load(path.read_text()) for path in DEPLOY.glob("*/*/chart.yaml")]
    assert len(charts) >= 8
    named = {(str(c["repository"]), c["chart"], str(c["version"])) for c in charts}
    assert named <= listed
