"""What the data services' overlays render to is whole: names, ports, secrets and sizes fit."""

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from carbon_pipelines.cluster.load import load_service
from carbon_pipelines.cluster.service import ServiceSpec
from carbon_pipelines_tests.deploy.rendered import (
    DEPLOY,
    OVERLAYS,
    SERVICE_LABEL,
    WORKLOADS,
    Made,
    Object,
    containers,
    data_platform,
    made_by_operators,
    name_of,
    of_kind,
    render,
    template,
    walk,
)

KUBERNETES = "1.37"
SERVICES = tuple(
    load_service(path)
    for path in sorted(DEPLOY.glob("base/*/service.yaml"))
    if (path.parent / "kustomization.yaml").exists()
)
OURS = {service.name: service for service in SERVICES if service.namespace == "data-platform"}
BUILT_IN = re.compile(r"v1|(apps|batch|policy|rbac\.authorization\.k8s\.io)/v1")
UNITS = {"m": Decimal("0.001"), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
WITHOUT_PROBE = {"Deployment/carbon-follow"}
"""Says by its tables' freshness that it works; it has no port, and ends when it cannot go on."""
NOT_THERE = {("local", "trino", "worker")}
"""Pods that an overlay leaves out: there the coordinator works itself."""
NO_SERVICE = {("local", "dagster", "webserver")}
"""Endpoints that an overlay leaves out: without an identity provider nobody is let in but by
``kubectl port-forward``."""
ONE_BY_NATURE = {
    "Deployment/carbon-capture-market",
    "Deployment/carbon-follow",
    "Deployment/dagster-daemon",
    "Deployment/superset-beat",
}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def objects(overlay: str) -> tuple[Object, ...]:
    return data_platform(overlay)


def budget(overlay: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "overlays" / overlay / "data-platform/budget.yaml").read_text())


def chosen(overlay: str) -> list[ServiceSpec]:
    return [OURS[name] for name in budget(overlay)["services"]]


def test_every_object_is_of_a_service_of_its_overlay_and_in_the_namespace(
    overlay: str, objects: tuple[Object, ...]
) -> None:
    listed = set(budget(overlay)["services"])
    for found in objects:
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "carbon-pipelines", name_of(found)
        assert labels[SERVICE_LABEL] in listed, name_of(found)
        assert found["metadata"]["namespace"] == "data-platform", name_of(found)
    assert {found["metadata"]["labels"][SERVICE_LABEL] for found in objects} == listed


def test_no_two_objects_or_secrets_have_one_name(objects: tuple[Object, ...]) -> None:
    names = [name_of(found) for found in objects]
    assert len(names) == len(set(names))
    makers = [
        *(found["spec"]["target"]["name"] for found in of_kind(objects, "ExternalSecret")),
        *(found["metadata"]["name"] for found in of_kind(objects, "KafkaUser")),
        *(found["spec"]["secretName"] for found in of_kind(objects, "Certificate")),
    ]
    assert len(makers) == len(set(makers)), "two would write one Secret"


def test_kubernetes_own_kinds_are_as_their_schemas_want_them(objects: tuple[Object, ...]) -> None:
    own = [found for found in objects if BUILT_IN.fullmatch(found["apiVersion"])]
    assert own
    for found in own:
        kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_what_a_service_declares_is_there(overlay: str, objects: tuple[Object, ...]) -> None:
    made = made_by_operators(objects)
    for service in chosen(overlay):
        if service.kind == "chart":
            continue
        for kind, pods in service.pods.items():
            if (overlay, service.name, kind) in NOT_THERE:
                continue
            if service.name == "object-store" and dict(pods.labels) not in pod_labels(
                objects, made
            ):
                continue  # of a store that this overlay has not chosen
            assert any(
                dict(pods.labels).items() <= one.items() for one in pod_labels(objects, made)
            ), f"{service.name}: no pods have {dict(pods.labels)}"
            if pods.service_account:
                assert pods.service_account in accounts(objects, made), pods.service_account
        for name, endpoint in service.endpoints.items():
            assert endpoint.service
            ports = services(objects, made).get(endpoint.service)
            if service.name == "object-store" and name != "s3":
                continue
            if (overlay, service.name, endpoint.pods) in NOT_THERE:
                continue
            if (overlay, service.name, name) in NO_SERVICE:
                assert ports is None
                continue
            if endpoint_without_service(name, endpoint.port, ports):
                continue
            assert ports is not None, f"{service.name}/{name}: there is no {endpoint.service}"
            assert endpoint.port in ports, f"{service.name}/{name}: {endpoint.service} has {ports}"


def endpoint_without_service(name: str, port: int, ports: frozenset[int] | None) -> bool:
    """Ports of pods that their operators give no Service: they, and Prometheus, ask the pods."""
    return (name, port) in {("metrics", 9404), ("metrics", 9187), ("status", 8000)} and bool(ports)


def pod_labels(objects: tuple[Object, ...], made: Made) -> list[dict[str, str]]:
    ours = [
        template(found)["metadata"]["labels"] for found in objects if found["kind"] in WORKLOADS
    ]
    return [*ours, *made.pods]


def accounts(objects: tuple[Object, ...], made: Made) -> set[str]:
    ours = {found["metadata"]["name"] for found in of_kind(objects, "ServiceAccount")}
    return ours | made.accounts


def services(objects: tuple[Object, ...], made: Made) -> dict[str, frozenset[int]]:
    ours = {
        found["metadata"]["name"]: frozenset(port["port"] for port in found["spec"]["ports"])
        for found in of_kind(objects, "Service")
    }
    return ours | made.services


def test_services_select_pods_that_have_their_ports(objects: tuple[Object, ...]) -> None:
    workloads = [found for found in objects if found["kind"] in WORKLOADS]
    for service in of_kind(objects, "Service"):
        selector = service["spec"]["selector"]
        behind = [
            found
            for found in workloads
            if selector.items() <= template(found)["metadata"]["labels"].items()
        ]
        assert behind, f"{name_of(service)} selects nothing"
        for found in behind:
            named = {port["name"] for one in containers(found) for port in one.get("ports", ())}
            wanted = {port["targetPort"] for port in service["spec"]["ports"]}
            assert wanted <= named, f"{name_of(service)} -> {name_of(found)}: {wanted - named}"


def test_workloads_are_selected_by_labels_of_their_pods(objects: tuple[Object, ...]) -> None:
    for found in of_kind(objects, "Deployment", "StatefulSet"):
        selector = found["spec"]["selector"]["matchLabels"]
        assert selector.items() <= template(found)["metadata"]["labels"].items(), name_of(found)
    selectors = [
        tuple(sorted(found["spec"]["selector"]["matchLabels"].items()))
        for found in of_kind(objects, "Deployment", "StatefulSet")
    ]
    assert len(selectors) == len(set(selectors)), "two workloads would fight for pods"


def test_every_secret_and_config_map_that_is_named_is_made(objects: tuple[Object, ...]) -> None:
    made = made_by_operators(objects)
    maps = {found["metadata"]["name"] for found in of_kind(objects, "ConfigMap")}
    for found in objects:
        for path, value in walk(found):
            if not isinstance(value, dict):
                continue
            last = path.rsplit(".", 1)[-1]
            if last in {"secretKeyRef", "secretRef", "passwordSecret", "s3Credentials"}:
                secret = value.get("name") or value.get("secretName")
                assert secret is None or secret in made.secrets, f"{name_of(found)}{path}: {secret}"
            elif last == "secret" and path.endswith(("volumes[].secret", "sources[].secret")):
                secret = value.get("secretName") or value["name"]
                assert secret in made.secrets, f"{name_of(found)}{path}: {secret}"
            elif last in {"configMapKeyRef", "configMapRef", "configMap"}:
                assert value["name"] in maps, f"{name_of(found)}{path}: {value['name']}"


def test_runs_of_dagster_name_what_is_there(objects: tuple[Object, ...]) -> None:
    made = made_by_operators(objects)
    maps = {found["metadata"]["name"]: found for found in of_kind(objects, "ConfigMap")}
    instance = yaml.safe_load(maps["dagster-instance"]["data"]["dagster.yaml"])
    launcher = instance["run_launcher"]["config"]
    assert launcher["instance_config_map"] in maps
    assert set(launcher["env_config_maps"]) <= maps.keys()
    assert set(launcher["env_secrets"]) <= made.secrets
    assert launcher["service_account_name"] in accounts(objects, made)
    for path, value in walk(launcher["run_k8s_config"]):
        if path.endswith(("secret_key_ref", ".secret")):
            assert value.get("name", value.get("secret_name")) in made.secrets, path
        elif path.endswith("config_map_key_ref"):
            assert value["name"] in maps, path


def test_pods_of_runs_are_declared_as_they_are_labelled(objects: tuple[Object, ...]) -> None:
    (instance,) = [
        yaml.safe_load(found["data"]["dagster.yaml"])
        for found in of_kind(objects, "ConfigMap")
        if found["metadata"]["name"] == "dagster-instance"
    ]
    labels = instance["run_launcher"]["config"]["run_k8s_config"]["pod_template_spec_metadata"]
    assert labels["labels"] == dict(OURS["dagster"].pods["run"].labels)


def test_uses_name_a_secret_that_is_made(overlay: str, objects: tuple[Object, ...]) -> None:
    made = made_by_operators(objects)
    for service in chosen(overlay):
        for use in service.uses:
            chosen_store = "seaweedfs" not in str(use.secret) or overlay == "local"
            if use.secret and chosen_store:
                assert use.secret in made.secrets, (
                    f"{service.name} uses {use.endpoint}: {use.secret}"
                )


def test_no_secret_value_is_in_a_manifest(objects: tuple[Object, ...]) -> None:
    assert of_kind(objects, "Secret") == []
    told = re.compile(r"(?i)(password|secret|token|credential|access_key)$")
    for found in objects:
        if found["kind"] == "ExternalSecret":
            for text in found["spec"]["target"].get("template", {}).get("data", {}).values():
                assert not re.search(r"(?i)password: *[^{ ]", text), name_of(found)
        for one in containers(found) if found["kind"] in WORKLOADS else ():
            for variable in one.get("env", ()):
                assert not (told.search(variable["name"]) and "value" in variable), variable["name"]


def images() -> dict[str, dict[str, Any]]:
    components = yaml.safe_load((DEPLOY / "versions.yaml").read_text())["components"]
    return {
        f"{known['name']}:{known['version']}": known
        for known in components.values()
        if known["kind"] == "image"
    }


OF_OTHERS = {
    "registry.registry.svc.cluster.local:5000/carbon-pipelines:0.1.0",
    "quay.io/oauth2-proxy/oauth2-proxy:v7.15.6",
}
"""Images that other services bring to versions.yaml."""


def test_every_image_is_one_of_the_versions(objects: tuple[Object, ...]) -> None:
    known = images().keys() | OF_OTHERS
    for found in objects:
        named = [value for path, value in walk(found) if re.search(r"\.image(Name)?$", path)]
        for image in named:
            if isinstance(image, str):
                assert image in known, f"{name_of(found)}: {image}"


def test_what_ended_says_why_it_is_here() -> None:
    for name, known in images().items():
        if known["status"] == "ended":
            assert known["ended"].keys() == {"since", "reason", "replacement"}, name


def test_pods_are_what_pod_security_calls_restricted(objects: tuple[Object, ...]) -> None:
    for found in (one for one in objects if one["kind"] in WORKLOADS):
        spec = template(found)["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, name_of(found)
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name_of(found)
        for one in containers(found):
            security = one["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name_of(found)
            assert security["capabilities"] == {"drop": ["ALL"]}, name_of(found)
            assert security.get("runAsUser", 1) != 0, name_of(found)
        assert not any("hostPath" in volume for volume in spec.get("volumes", ())), name_of(found)
        assert spec["serviceAccountName"] != "default", name_of(found)


def test_pools_of_kafka_repeat_what_their_pod_template_replaces(
    objects: tuple[Object, ...],
) -> None:
    for pool in of_kind(objects, "KafkaNodePool"):
        pod = pool["spec"]["template"]["pod"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["priorityClassName"] == "platform-data"


def test_containers_say_what_they_need_and_how_they_are(objects: tuple[Object, ...]) -> None:
    for found in (one for one in objects if one["kind"] in WORKLOADS):
        for one in containers(found):
            resources = one["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name_of(found)
            assert "memory" in resources["limits"], name_of(found)
            asked, most = resources["requests"]["memory"], resources["limits"]["memory"]
            assert quantity(asked) <= quantity(most), name_of(found)
    for found in of_kind(objects, "Deployment", "StatefulSet"):
        for one in template(found)["spec"]["containers"]:
            probes = {"readinessProbe", "livenessProbe"} & one.keys()
            assert bool(probes) != (name_of(found) in WITHOUT_PROBE), name_of(found)


def test_several_replicas_are_spread_and_not_all_taken_at_once(objects: tuple[Object, ...]) -> None:
    budgets = [
        found["spec"]["selector"]["matchLabels"]
        for found in of_kind(objects, "PodDisruptionBudget")
    ]
    for found in of_kind(objects, "Deployment", "StatefulSet"):
        labels = template(found)["metadata"]["labels"]
        covered = any(selector.items() <= labels.items() for selector in budgets)
        several = found["spec"]["replicas"] > 1
        assert covered == several, f"{name_of(found)}: a budget, or one replica without"
        spread = "topologySpreadConstraints" in template(found)["spec"]
        assert spread or not several, name_of(found)
        if name_of(found) in ONE_BY_NATURE:
            assert found["spec"]["replicas"] == 1
            assert found["spec"]["strategy"] == {"type": "Recreate"}, name_of(found)


def quantity(text: object) -> Decimal:
    """A Kubernetes quantity as a number: cores or bytes."""
    found = re.fullmatch(r"([0-9.]+)(m|[KMGT]i)?", str(text))
    assert found, text
    return Decimal(found[1]) * UNITS.get(found[2] or "", 1)


def pods_asked(objects: tuple[Object, ...]) -> list[tuple[int, dict[str, Any], list[Any]]]:
    """How many pods ask for what, with their volumes' sizes; operators' pods included."""
    asked: list[tuple[int, dict[str, Any], list[Any]]] = []
    for found in objects:
        spec = found.get("spec", {})
        match found["kind"]:
            case "Deployment" | "StatefulSet":
                sizes = [
                    claim["spec"]["resources"]["requests"]["storage"]
                    for claim in spec.get("volumeClaimTemplates", ())
                ]
                for number, one in enumerate(template(found)["spec"]["containers"]):
                    requests = one["resources"]["requests"]
                    asked.append((spec["replicas"], requests, [] if number else sizes))
            case "KafkaNodePool":
                sizes = [volume["size"] for volume in spec["storage"]["volumes"]]
                asked.append((spec["replicas"], spec["resources"]["requests"], sizes))
            case "Kafka":
                asked += [
                    (1, spec["entityOperator"][part]["resources"]["requests"], [])
                    for part in ("topicOperator", "userOperator")
                ]
            case "KafkaConnect":
                asked.append((spec["replicas"], spec["resources"]["requests"], []))
            case "Cluster":
                sizes = [spec["storage"]["size"], spec["walStorage"]["size"]]
                asked.append((spec["instances"], spec["resources"]["requests"], sizes))
            case "ObjectStore":
                sidecar = spec["instanceSidecarConfiguration"]["resources"]["requests"]
                asked.append((3, sidecar, []))
            case "DorisCluster":
                for part in (spec["feSpec"], spec["beSpec"]):
                    sizes = [
                        volume["persistentVolumeClaimSpec"]["resources"]["requests"]["storage"]
                        for volume in part["persistentVolumes"]
                    ]
                    asked.append((part["replicas"], part["requests"], sizes))
            case "ConfigMap" if found["metadata"]["name"] == "dagster-instance":
                instance = yaml.safe_load(found["data"]["dagster.yaml"])
                most = instance["concurrency"]["runs"]["max_concurrent_runs"]
                run = instance["run_launcher"]["config"]["run_k8s_config"]["container_config"]
                asked.append((most, run["resources"]["requests"], []))
            case _:
                pass
    return asked


def chart_asked(overlay: str) -> list[tuple[int, dict[str, Any], list[Any]]]:
    """The same of services that a chart makes, from their values."""
    asked: list[tuple[int, dict[str, Any], list[Any]]] = []
    for service in chosen(overlay):
        if service.kind == "chart":
            values = yaml.safe_load((DEPLOY / "base" / service.name / "values.yaml").read_text())
            for part in values.values():
                if "resources" in part:
                    count = part.get("replicaCount", 1)
                    asked.append((count, part["resources"]["requests"], []))
    return asked


def test_requests_fit_the_budget(overlay: str, objects: tuple[Object, ...]) -> None:
    asked = [*pods_asked(objects), *chart_asked(overlay)]
    wanted = budget(overlay)
    cpu = sum((count * quantity(one["cpu"]) for count, one, _ in asked), Decimal())
    memory = sum((count * quantity(one["memory"]) for count, one, _ in asked), Decimal())
    storage = sum(
        (count * quantity(size) for count, _, sizes in asked for size in sizes), Decimal()
    )
    told = f"{cpu} CPU, {memory / 2**30:.2f} GiB, {storage / 2**30:.0f} GiB of volumes"
    assert cpu <= quantity(wanted["cpu"]), told
    assert memory <= quantity(wanted["memory"]), told
    assert storage <= quantity(wanted["storage"]), told
    # a budget that is far above what is asked for says nothing
    assert cpu >= quantity(wanted["cpu"]) * Decimal("0.7"), told
    assert memory >= quantity(wanted["memory"]) * Decimal("0.7"), told


STORES = {
    "object-store-minio": {"s3", "setup"},
    "object-store-seaweedfs": {"s3", "master", "volume", "setup"},
    "object-store-seaweedfs-single": {"s3", "setup"},
    "object-store-external": set(),
}


@pytest.mark.parametrize("store", STORES)
def test_each_object_store_is_whole(store: str, tmp_path: Path) -> None:
    places = {
        "resources": [DEPLOY / "base/object-store", DEPLOY / "base/postgres"],
        "components": [DEPLOY / "components" / store],
    }
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                **{
                    kind: [os.path.relpath(place.resolve(), tmp_path.resolve()) for place in found]
                    for kind, found in places.items()
                },
            }
        )
    )
    objects = render(tmp_path)
    declared, made = OURS["object-store"], made_by_operators(objects)
    labels = [
        template(found)["metadata"]["labels"] for found in objects if found["kind"] in WORKLOADS
    ]
    there = {
        kind
        for kind, pods in declared.pods.items()
        if any(dict(pods.labels).items() <= one.items() for one in labels)
    }
    assert there == STORES[store]
    for name, endpoint in declared.endpoints.items():
        ports = services(objects, made).get(str(endpoint.service), frozenset())
        used = endpoint.pods in there and (name == "s3" or store == "object-store-seaweedfs")
        assert (endpoint.port in ports) == used, name
    for check in (
        test_kubernetes_own_kinds_are_as_their_schemas_want_them,
        test_services_select_pods_that_have_their_ports,
        test_every_secret_and_config_map_that_is_named_is_made,
        test_pods_are_what_pod_security_calls_restricted,
        test_containers_say_what_they_need_and_how_they_are,
        test_several_replicas_are_spread_and_not_all_taken_at_once,
        test_every_image_is_one_of_the_versions,
    ):
        check(objects)


def test_the_small_overlay_says_the_same_of_dagster_but_for_sizes() -> None:
    base = (DEPLOY / "base/dagster/dagster.yaml").read_text().splitlines()
    local = (DEPLOY / "overlays/local/data-platform/dagster.yaml").read_text().splitlines()
    assert len(base) == len(local)
    differing = [(one, other) for one, other in zip(base, local, strict=True) if one != other]
    assert all(re.search("max_concurrent_runs|requests|limits", one) for one, _ in differing)
    assert len(differing) == 3


def test_every_service_has_a_page() -> None:
    pages = {path.stem for path in Path(DEPLOY.parent / "docs/cluster").glob("*.md")}
    assert set(OURS) <= pages, set(OURS) - pages
