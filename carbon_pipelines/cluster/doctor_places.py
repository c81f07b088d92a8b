"""Running the probe where an edge begins: in a pod, in a network namespace, or here.

What belongs here: how the program gets there and its answer back. What does not: what it does there
(``doctor_probe.py``), and which place is whose (``doctor.py``).

The program and what it is asked, logins included, travel on standard input: arguments can be read
by everybody on the machine. Nothing is written at the other end.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

from carbon_pipelines.errors import ProbeFailedError

PACKAGE = "carbon_pipelines.cluster"
MODULES = (
    "doctor_wire",
    "doctor_probe_sql",
    "doctor_probe_stream",
    "doctor_probe_http",
    "doctor_probe",
)
MARK = "CARBON-DOCTOR "
_LOADER = """\
import sys, types
for name in ("carbon_pipelines", "carbon_pipelines.cluster"):
    sys.modules[name] = types.ModuleType(name)
for name, source in MODULES:
    sys.modules[name] = made = types.ModuleType(name)
    exec(compile(source, name, "exec"), made.__dict__)
made.main(REQUESTS)
"""
READ_AND_RUN = "import sys; exec(sys.stdin.read())"

_SHELL = """\
edge='{edge}'; host='{host}'
resolved=$( (getent ahostsv4 "$host" || nslookup "$host") 2>/dev/null | tr '\\n' ' ')
printf '\\nCARBON-DOCTOR-SH dns %s %s\\n' "$edge" "$resolved"
"""
_SHELL_TARGET = """\
if command -v bash >/dev/null; then
  timeout {seconds} bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null; code=$?
elif command -v nc >/dev/null; then
  nc -z -w {seconds} {address} {port} 2>/dev/null; code=$?
else code=127; fi
printf 'CARBON-DOCTOR-SH tcp %s {kind} {address} {port} %s\\n' "$edge" "$code"
"""


_ADDRESS = re.compile(r"[0-9]+(\.[0-9]+){3}")


class Runner(Protocol):
    """A place where programs can be run."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    def run(self, command: Sequence[str], stdin: str, *, timeout_seconds: float) -> str:
        """Run a command there and return what it printed.

        Raises:
            ProbeFailedError: It could not be run there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """This machine; ``before`` puts a command somewhere else on it (``ip netns exec ...``)."""

    label: str = "here"
    before: tuple[str, ...] = ()
    python: str = sys.executable

    def run(self, command: Sequence[str], stdin: str, *, timeout_seconds: float) -> str:
        """Run a command as a child of ours."""
        words = [*self.before, *command]
        try:
            done = subprocess.run(
                words,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProbeFailedError(self.label, str(error), "Run it by hand there.") from error
        if done.returncode != 0:
            said = done.stderr.strip()[-300:] or f"exit code {done.returncode}"
            raise ProbeFailedError(self.label, said, "Run it by hand there.")
        return done.stdout


def run_probe(
    place: Runner,
    requests: Sequence[Mapping[str, Any]],
    *,
    python: str = "python3",
    timeout_seconds: float = 60.0,
) -> Mapping[str, Mapping[str, Any]]:
    """The facts of each edge by its name, from one run of the program.

    Raises:
        ProbeFailedError: Nothing came back that can be understood.
    """
    command = [python, "-I", "-c", READ_AND_RUN]
    printed = place.run(command, make_program(requests), timeout_seconds=timeout_seconds)
    for line in printed.splitlines():
        if line.startswith(MARK):
            return {fact["edge"]: fact for fact in json.loads(line[len(MARK) :])["edges"]}
    said = f"the probe printed no facts, but: {printed.strip()[-200:] or 'nothing'}"
    raise ProbeFailedError(place.label, said, "See whether its Python is 3.10 or newer.")


def make_program(requests: Sequence[Mapping[str, Any]]) -> str:
    """The probe and what it is asked, as one text for a Python that has nothing of ours."""
    here = files(PACKAGE)
    modules = [
        (f"{PACKAGE}.{name}", here.joinpath(f"{name}.py").read_text(encoding="utf-8"))
        for name in MODULES
    ]
    return f"MODULES = {modules!r}\nREQUESTS = {list(requests)!r}\n{_LOADER}"


def run_shell_probe(
    place: Runner, requests: Sequence[Mapping[str, Any]], *, timeout_seconds: float = 60.0
) -> Mapping[str, Mapping[str, Any]]:
    """Names and TCP only, where a container has a shell and no Python.

    Raises:
        ProbeFailedError: There is no shell either.
    """
    script = "".join(map(_shell, requests)) + "exit 0\n"
    printed = place.run(["sh", "-s"], script, timeout_seconds=timeout_seconds)
    return read_shell(printed, requests)


def read_shell(
    printed: str, requests: Sequence[Mapping[str, Any]]
) -> Mapping[str, Mapping[str, Any]]:
    """Facts in the form of the Python probe, from what the shell printed."""
    words = {0: "", 1: "refused", 124: "timeout", 127: "unknown", 143: "timeout"}
    found: dict[str, dict[str, Any]] = {
        str(request["edge"]): {"edge": request["edge"], "dns": {"ok": False}, "targets": []}
        for request in requests
    }
    for line in printed.splitlines():
        told = line.split()
        if told[:2] == ["CARBON-DOCTOR-SH", "dns"]:
            addresses = sorted({word for word in told[3:] if _ADDRESS.fullmatch(word)})
            fact: dict[str, Any] = {"ok": bool(addresses), "addresses": addresses}
            if not addresses:
                fact.update(word="timeout", said="getent and nslookup found no address")
            found[told[2]]["dns"] = fact
        elif told[:2] == ["CARBON-DOCTOR-SH", "tcp"]:
            edge, kind, address, port, code = told[2:7]
            if int(code) == 127:
                continue
            tcp = {
                "ok": code == "0",
                "word": words.get(int(code), "refused"),
                "said": f"code {code}",
            }
            target = {"kind": kind, "address": address, "port": int(port), "levels": {"tcp": tcp}}
            found[edge]["targets"].append(target)
    return found


def _shell(request: Mapping[str, Any]) -> str:
    text = _SHELL.format(edge=request["edge"], host=request["host"])
    for target in request["targets"]:
        seconds = max(1, round(float(request["timeout"])))
        text += _SHELL_TARGET.format(seconds=seconds, **target)
    return text
