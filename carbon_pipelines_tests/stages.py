"""Every check in order, cheapest first: ``python -m carbon_pipelines_tests.stages [stage ...]``.

What belongs here: which checks there are, how each is run, and how long it took. What does not: the
checks. The first stage that fails ends the run, because later ones would only repeat its news.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TESTS = "carbon_pipelines_tests"

PYTEST = (sys.executable, "-m", "pytest", "-q")
WORKERS = ("-n", "3", "--dist", "worksteal")
"""Tests of services wait more than they compute: three at a time keep two cores busy. Each worker
has a stack of its own, and its standard error is ours: what a test tells people goes there."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A name, what it proves, and the commands that prove it."""

    name: str
    proves: str
    commands: tuple[Sequence[str], ...]
    needs: tuple[str, ...] = ()
    """Paths (patterns) of which at least one must exist, else there is nothing to check yet."""
    on_request: bool = False
    """Run only when named."""
    side_by_side: bool = False
    """Whether the commands run at the same time; each is shown once it has ended."""


def plan_stages(environ: Mapping[str, str]) -> tuple[Stage, ...]:
    """All stages in their order; CARBON_NIGHTLY=1 adds what only nightly runs."""
    nightly = environ.get("CARBON_NIGHTLY") == "1"
    skipped = "" if nightly else " and not nightly"
    others = ("integration", "end_to_end", "defs", "deploy", "lake")
    other_services = "not trino and not debezium and not superset"
    alone = f"not integration and not end_to_end and {other_services}{skipped}"
    unit = (*PYTEST, "-m", alone)
    named = ("operations", "provision*", "real_overlays")  # a control plane for each worker
    clusters = [
        str(at) for name in named for at in (ROOT / TESTS / "deploy").glob(f"test_{name}.py")
    ]
    lake = sorted(map(str, (ROOT / TESTS / "lake").glob("test_*.py")))
    return (
        Stage(
            "ruff",
            "style and format",
            ((str(BIN / "ruff"), "check"), (str(BIN / "ruff"), "format", "--check")),
        ),
        Stage("pyright", "types", ((str(BIN / "pyright"),),)),
        Stage("layers", "imports run against the data", ((str(BIN / "lint-imports"),),)),
        Stage(
            "unit",
            "every part by itself, without services, in under 20 s",
            (
                (*unit, *lake[::2]),
                (*unit, *lake[1::2]),
                (*unit, *(f"--ignore={TESTS}/{name}" for name in others)),
            ),
            side_by_side=True,
        ),
        Stage(
            "definitions",
            "Dagster loads the code location",
            ((str(BIN / "dagster"), "definitions", "validate", "-w", "workspace.yaml"),),
            needs=("carbon_pipelines/definitions.py",),
        ),
        Stage(
            "graph",
            "assets, checks and automation are as the committed snapshot shows",
            ((*PYTEST, f"{TESTS}/defs"),),
            needs=(f"{TESTS}/defs/test_*.py",),
        ),
        Stage(
            "deploy",
            "manifests hold on a real API server, which is built here once",
            (
                (sys.executable, "-m", f"{TESTS}.deploy.programs"),
                (*PYTEST, f"{TESTS}/deploy", *(f"--ignore={path}" for path in clusters)),
                (*PYTEST, *WORKERS, *clusters),
            ),
            needs=(f"{TESTS}/deploy/test_*.py",),
        ),
        Stage(
            "integration",
            "each part against real services, and what takes long by itself",
            (
                (
                    *PYTEST,
                    *WORKERS,
                    f"{TESTS}/integration",
                    f"{TESTS}/maintenance",
                    "-m",
                    f"integration and {other_services}{skipped}",
                ),
            ),
            needs=(f"{TESTS}/integration/test_*.py",),
        ),
        Stage(
            "end_to_end",
            "whole pipelines, with crashes",
            ((*PYTEST, TESTS, "-m", f"end_to_end and not trino{skipped}"),),
            needs=(f"{TESTS}/end_to_end/test_*.py",),
        ),
        Stage(
            "debezium",
            "tables that a real Debezium connector captures",
            ((*PYTEST, f"{TESTS}/integration", "-m", f"debezium{skipped}"),),
            needs=(f"{TESTS}/integration/test_debezium*.py",),
        ),
        Stage(
            "datahub",
            "what DataHub is told, by its own models and client",
            ((*PYTEST, f"{TESTS}/integration", "-m", f"datahub{skipped}"),),
            needs=(f"{TESTS}/integration/test_datahub_models.py",),
        ),
        Stage(
            "trino",
            "Trino reads what was written",
            ((*PYTEST, TESTS, "-m", f"trino{skipped}"),),
            needs=(f"{TESTS}/integration/test_*trino*.py", f"{TESTS}/end_to_end/test_*trino*.py"),
        ),
        Stage(
            "superset",
            "a real Superset shows what was certified",
            ((*PYTEST, f"{TESTS}/integration", "-m", f"superset{skipped}"),),
            needs=(f"{TESTS}/integration/test_superset*.py",),
        ),
        Stage(
            "benchmarks",
            "figures",
            tuple(
                (sys.executable, "-m", f"{TESTS}.benchmarks.{module.stem}")
                for module in sorted((ROOT / TESTS / "benchmarks").glob("[!_]*.py"))
            ),
            needs=(f"{TESTS}/benchmarks/[!_]*.py",),
            on_request=True,
        ),
    )


def select_stages(stages: Iterable[Stage], names: Sequence[str]) -> list[Stage]:
    """Stages of the given names in their own order; without names, all but those on request."""
    known = {stage.name: stage for stage in stages}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no stage {', '.join(unknown)}: there are {', '.join(known)}")
    return [
        stage
        for stage in known.values()
        if (stage.name in names if names else not stage.on_request)
    ]


def run_stage(stage: Stage) -> int:
    """Run a stage's commands until one fails; returns the exit status."""
    say(f"\n=== {stage.name}: {stage.proves}")
    if stage.needs and not any(any(ROOT.glob(pattern)) for pattern in stage.needs):
        say(f"=== {stage.name}: nothing to check yet")
        return 0
    began = time.monotonic()
    run = run_side_by_side if stage.side_by_side else run_in_turn
    status = run(stage.commands)
    minutes = (time.monotonic() - began) / 60
    say(f"=== {stage.name}: {'passed' if status == 0 else 'FAILED'} after {minutes:.2f} minutes")
    return status


def run_in_turn(commands: Iterable[Sequence[str]]) -> int:
    """Run commands until one fails; returns its exit status."""
    for command in commands:
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status != 0:
            return status
    return 0


def run_side_by_side(commands: Iterable[Sequence[str]]) -> int:
    """Run all commands at the same time; returns the exit status of the first that failed."""
    with ExitStack() as opened:
        started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        for command in commands:
            output = opened.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
            started.append((opened.enter_context(process), output))
        statuses: list[int] = []
        for process, output in started:
            statuses.append(process.wait())
            output.seek(0)
            say(output.read().decode(errors="replace"))
    return next((status for status in statuses if status != 0), 0)


def main(names: Sequence[str]) -> int:
    """Run the named stages, or all; returns the first failure's exit status."""
    began = time.monotonic()
    for stage in select_stages(plan_stages(os.environ), names):
        status = run_stage(stage)
        if status != 0:
            return status
    say(f"\n=== all passed after {(time.monotonic() - began) / 60:.2f} minutes")
    return 0


def say(line: str) -> None:
    """Tell the person, before the next command writes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
