"""Facts of made-up tables, for tests of what is decided on them.

What belongs here: building facts, Hypothesis's strategies for them, and what a compaction would
leave. What does not: assertions.
"""

from dataclasses import replace

from hypothesis import strategies as st

from carbon_pipelines.maintenance.compaction_plan import CompactionPlan
from carbon_pipelines.maintenance.table_facts import FileFacts, TableFacts

MB = 1_000_000
TARGET = 100 * MB


def file(path: str = "a", size: int = MB, **more) -> FileFacts:
    """A data file of one MB and 1,000 rows unless said."""
    return FileFacts(**{"path": path, "size_bytes": size, "rows": 1000, "group": (0, ""), **more})


def table(*files: FileFacts, **more) -> TableFacts:
    """A table of these files at sequence number 100."""
    facts = {"snapshot_id": 1, "sequence_number": 100, "target_bytes": TARGET, **more}
    return TableFacts("market/t", files=files, **facts)


@st.composite
def files(draw: st.DrawFn, path: str, *, largest: int = 3 * TARGET) -> FileFacts:
    """Any data file."""
    rows = draw(st.integers(1, 10_000))
    deleted = draw(st.integers(0, rows) | st.just(0))
    return file(
        path,
        draw(st.integers(100, 5 * MB) | st.integers(1, largest)),
        rows=rows,
        group=(draw(st.sampled_from([0, 0, 0, 1])), draw(st.sampled_from("xy"))),
        deleted_rows=deleted,
        delete_files=draw(st.integers(1, 20)) if deleted else 0,
        touched_number=draw(st.integers(1, 100)),
        sort_order_id=draw(st.sampled_from([0, 1])),
        older_schema=draw(st.booleans()),
    )


@st.composite
def tables(draw: st.DrawFn, most: int = 40) -> TableFacts:
    """Any table."""
    count = draw(st.integers(0, most))
    return table(
        *(draw(files(f"f{number}")) for number in range(count)),
        manifests=draw(st.integers(0, 500)),
        snapshots=draw(st.integers(0, 5000)),
        metadata_bytes=draw(st.integers(0, 50 * MB)),
        sort_order_id=draw(st.sampled_from([0, 1])),
        dangling=tuple(f"d{number}" for number in range(draw(st.integers(0, 3)))),
    )


def outcome(facts: TableFacts, plan: CompactionPlan) -> TableFacts:
    """The table after the plan, as it says; what had another spec is in one partition then."""
    gone = {path for group in plan.groups for path in group.paths}
    merged = {planned.file.path for planned in plan.merges}
    left = [
        replace(one, delete_files=1) if one.path in merged else one
        for one in facts.files
        if one.path not in gone
    ]
    for number, group in enumerate(plan.groups):
        first = group.files[0].file
        for part in range(group.output_files):
            rows = sum(one.file.rows - one.file.deleted_rows for one in group.files)
            left.append(
                replace(
                    first,
                    path=f"new{number}-{part}",
                    size_bytes=group.live_bytes // group.output_files,
                    rows=rows,
                    group=(facts.spec_id, first.group[1]),
                    deleted_rows=0,
                    delete_files=0,
                    sequence_number=facts.sequence_number + 1,
                    touched_number=facts.sequence_number + 1,
                    sort_order_id=facts.sort_order_id,
                    older_schema=False,
                )
            )
    return replace(facts, files=tuple(left), dangling=(), sequence_number=facts.sequence_number + 1)
