"""The doctor on one machine: real PostgreSQL, Kafka and S3, healthy and with their own faults."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from carbon_pipelines.cluster.doctor import Patience
from carbon_pipelines.cluster.doctor_local import examine_here
from carbon_pipelines.embedded.endpoints import EmbeddedAddresses, Endpoints
from carbon_pipelines.embedded.stack import Stack
from carbon_pipelines.errors import UnknownEdgeError
from carbon_pipelines_tests.conftest import SourceDatabase, silent

pytestmark = pytest.mark.integration

PATIENCE = Patience(timeout_seconds=4.0, slow_seconds=3.0)


def causes(stack: Stack, endpoints: Endpoints, *edges: str) -> dict[str, str]:
    found = examine_here(endpoints, stack.status().parts, edges, patience=PATIENCE)
    return {one.edge: one.cause for one in found.diagnoses}


def test_a_running_stack_has_no_fault_and_every_level_was_reached(stack: Stack) -> None:
    found = examine_here(stack.endpoints(), stack.status().parts, patience=PATIENCE)
    assert {one.edge: one.sentence.partition(": ")[2] for one in found.diagnoses} == {
        "here->source": "tcp, protocol, auth, permission",
        "here->kafka": "tcp, protocol, permission",
        "here->catalog": "tcp, protocol, auth, permission",
        "here->s3": "tcp, protocol, auth, permission",
    }


def test_wrong_passwords_keys_and_names_are_told_apart(
    stack: Stack, source: SourceDatabase
) -> None:
    right = stack.endpoints()
    assert right.embedded is not None
    login = psycopg.conninfo.make_conninfo(source.dsn, password="wrong")
    nowhere = psycopg.conninfo.make_conninfo(source.dsn, dbname="nowhere")
    wrong = replace(
        right,
        source_dsns={"CARBON_SOURCE_A_DSN": login, "CARBON_SOURCE_B_DSN": nowhere},
        lake=replace(right.lake, s3_secret_key="wrong", warehouse="s3://lake/x"),
    )
    assert causes(stack, wrong) == {
        "here->source": "works",
        "here->source_a": "bad_login",
        "here->source_b": "not_found",
        "here->kafka": "works",
        "here->catalog": "works",
        "here->s3": "bad_login",
    }
    elsewhere = replace(right, lake=replace(right.lake, warehouse="s3://nowhere/x"))
    assert causes(stack, elsewhere, "s3") == {"here->s3": "not_found"}
    swapped = replace(right, stream_bootstrap=f"127.0.0.1:{right.embedded.postgres_port}")
    assert causes(stack, swapped, "kafka")["here->kafka"] in {"wrong_protocol", "hangs_up"}


@pytest.fixture
def s3_process(stack: Stack) -> Iterator[int]:
    """The object store's process; it runs again after the test."""
    pid = stack.status().part("s3").pid
    assert pid is not None
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    stack.up(silent)


def test_a_part_that_hangs_or_has_ended_is_named_with_its_remedy(
    stack: Stack, s3_process: int
) -> None:
    endpoints = stack.endpoints()
    patience = Patience(timeout_seconds=1.0, slow_seconds=3.0)
    os.kill(s3_process, signal.SIGSTOP)
    (hangs,) = examine_here(endpoints, stack.status().parts, ["s3"], patience=patience).diagnoses
    assert (hangs.cause, hangs.remedies) == ("part_silent", ("restart_stack",))
    os.kill(s3_process, signal.SIGCONT)
    stack.kill("s3")
    (ended,) = examine_here(endpoints, stack.status().parts, ["s3"], patience=patience).diagnoses
    assert (ended.cause, ended.remedies) == ("part_stopped", ("start_stack",))
    assert ended.sentence == "s3 does not run"


def test_an_unknown_edge_is_answered_with_close_names(stack: Stack) -> None:
    with pytest.raises(UnknownEdgeError, match=r'called "kafk".*\n  here->kafka'):
        examine_here(stack.endpoints(), (), ["kafk"])


def test_no_secret_of_the_stack_is_in_what_is_told(stack: Stack) -> None:
    endpoints = stack.endpoints()
    embedded = endpoints.embedded
    assert isinstance(embedded, EmbeddedAddresses)
    wrong = replace(endpoints, lake=replace(endpoints.lake, s3_access_key="NOBODY"))
    told = str(examine_here(wrong, stack.status().parts, patience=PATIENCE).document())
    for secret in (embedded.postgres_password, embedded.s3_secret_key):
        assert secret not in told
