from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from carbon_pipelines.maintenance.health import judge_health
from carbon_pipelines.maintenance.table_facts import FileFacts, TableFacts
from carbon_pipelines_tests.maintenance.facts import MB, TARGET, file, files, table, tables


def lost(facts: TableFacts) -> dict[str, int]:
    return {part.name: round(part.lost) for part in judge_health(facts).parts}


def test_a_table_of_large_files_without_deletes_is_wholly_healthy() -> None:
    health = judge_health(table(*(file(f"f{n}", TARGET) for n in range(10)), manifests=10))

    assert health.score == 100
    assert (health.gain.files, health.gain.scan_saving) == (0, 0)
    assert not health.gain.is_worthwhile


def test_an_empty_table_is_wholly_healthy() -> None:
    assert judge_health(table()).score == 100


def test_small_files_and_deletes_take_their_parts_off() -> None:
    crowded = table(*(file(f"f{n}", MB, rows=10_000) for n in range(500)))
    deleted = replace(
        crowded,
        files=tuple(replace(f, deleted_rows=2_000, delete_files=2) for f in crowded.files),
    )

    assert lost(crowded) == {"small files": 40, "deletes": 0, "planning": 0, "metadata": 0}
    assert lost(deleted)["deletes"] == 34


def test_the_gain_says_files_bytes_and_what_it_costs() -> None:
    health = judge_health(table(*(file(f"f{n}", MB) for n in range(500))))

    gain = health.gain
    assert (gain.files, gain.freed_bytes, gain.rewritten_bytes) == (495, 0, 500 * MB)
    assert round(gain.scan_saving, 2) == 0.8
    assert gain.is_worthwhile
    assert round(gain.cpu_seconds, 1) == 6.2


def test_each_partition_tells_its_sizes_and_deletes() -> None:
    facts = table(
        file("a", 2 * MB, group=(0, "x"), partition="x"),
        file("b", 200 * MB, group=(0, "x"), partition="x", deleted_rows=500, delete_files=1),
        file("c", 3 * MB, group=(0, "y"), partition="y"),
    )

    x, y = judge_health(facts).partitions

    assert (x.partition, x.files, x.small_files, x.smallest_bytes, x.largest_bytes) == (
        "x", 2, 1, 2 * MB, 200 * MB,
    )  # fmt: skip
    assert x.delete_ratio == 0.25
    assert (y.partition, y.median_bytes) == ("y", 3 * MB)


def test_the_sentence_names_what_was_lost_and_why() -> None:
    sentence = judge_health(table(*(file(f"f{n}") for n in range(20)), manifests=164)).sentence()

    assert sentence.startswith(
        "market/t: 59 of 100; small files -33 (19 small files too many), "
        "planning -8 (164 manifests); compaction would take"
    )


@given(tables())
def test_a_score_is_between_0_and_100_and_its_parts_explain_it(facts: TableFacts) -> None:
    health = judge_health(facts)

    assert 0 <= health.score <= 100
    assert abs(100 - sum(part.lost for part in health.parts) - health.score) < 1e-9
    assert all(0 <= part.lost <= part.weight for part in health.parts)
    assert 0 <= health.gain.scan_saving <= 1


@given(tables(), files("another", largest=TARGET // 2))
def test_another_small_file_never_makes_a_better_score(
    facts: TableFacts, another: FileFacts
) -> None:
    more = replace(facts, files=(*facts.files, another))

    assert judge_health(more).score <= judge_health(facts).score + 1e-9


@given(tables(), st.data())
def test_another_deleted_row_never_makes_a_better_score(
    facts: TableFacts, data: st.DataObject
) -> None:
    alive = [f for f in facts.files if f.deleted_rows < f.rows]
    if not alive:
        return
    hit = data.draw(st.sampled_from(alive))
    worse = replace(hit, deleted_rows=hit.deleted_rows + 1, delete_files=max(1, hit.delete_files))
    more = replace(facts, files=tuple(worse if f is hit else f for f in facts.files))

    assert judge_health(more).score <= judge_health(facts).score + 1e-9


@given(tables(), st.sampled_from(["manifests", "snapshots", "metadata_bytes"]))
def test_more_metadata_never_makes_a_better_score(facts: TableFacts, what: str) -> None:
    more = replace(facts, **{what: getattr(facts, what) + 1000})

    assert judge_health(more).score <= judge_health(facts).score
