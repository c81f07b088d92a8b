"""What the doctor found, as text for people.

What belongs here: wording and order. What does not: conclusions (``doctor_diagnosis.py``).
"""

from collections.abc import Iterable, Sequence

from carbon_pipelines.cluster.doctor_findings import Diagnosis, Findings, Status
from carbon_pipelines.cluster.doctor_remedies import Step

_ORDER: tuple[Status, ...] = ("broken", "slow", "untested", "works")
WORKS, FAULTS, UNTESTED = 0, 3, 4
"""Exit codes: every edge works; one is broken or slow; none is, and some could not be tried."""


def exit_code(found: Findings) -> int:
    """The exit code that says what was found."""
    if found.faults:
        return FAULTS
    return UNTESTED if any(one.status == "untested" for one in found.diagnoses) else WORKS


def describe(found: Findings) -> str:
    """One line for each edge that works, and for each other the cause, its evidence and the fix."""
    lines: list[str] = []
    for status in _ORDER:
        lines += [line for one in found.diagnoses if one.status == status for line in _tell(one)]
    lines += [line for note in found.notes for line in _tell(note)]
    return "\n".join([*lines, summary(found)])


def summary(found: Findings) -> str:
    """The last line."""
    total, notes = len(found.diagnoses), len(found.notes)
    counts = [(status, sum(one.status == status for one in found.diagnoses)) for status in _ORDER]
    told = ", ".join(f"{count} {status}" for status, count in counts if count)
    also = f"; {notes} of the whole cluster" if notes else ""
    return f"{total} edges: {told or 'none'}{also}"


def describe_steps(steps: Sequence[Step]) -> str:
    """The plan of ``--fix``, step by step."""
    if not steps:
        return "No step can be run for what was found: the fix of each fault is told beside it."
    told = "\n".join(f"{number}. {step.describe()}" for number, step in enumerate(steps, 1))
    return (
        f"Steps, in this order, with a look after each; the first that helps is the last:\n{told}"
    )


def _tell(one: Diagnosis) -> Iterable[str]:
    if one.status == "works":
        return [f"works     {one.edge}"]
    lines = [f"{one.status:<9} {one.edge}: {one.sentence}."]
    lines += [f"          {evidence}" for evidence in one.evidence if evidence != one.sentence]
    if one.fix:
        lines.append(f"          fix: {one.fix}")
    return lines
