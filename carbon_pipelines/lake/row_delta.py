"""One snapshot that adds data files and position deletes and takes files away.

What belongs here: the snapshot producer, the manifests it writes and its summary. What does not:
which files (``merge.py``, ``first_copy.py``) and what to do about a conflict (``commit.py``).

The producer is a subclass of PyIceberg's private one (pinned to 0.12, held by a contract test) for
four reasons: delete files belong in a DELETES manifest; files must be able to go in the same
snapshot as others come; the summary must count delete files; and it must make exactly one attempt,
since PyIceberg's own retry would apply a plan to a table that it was not made for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import (
    Operation,
    Summary,
    UpdateMetrics,
    update_snapshot_summaries,
)
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    UpdatesAndRequirements,
)
from pyiceberg.table.update.snapshot import _SnapshotProducer  # pyright: ignore[reportPrivateUsage]
from pyiceberg.typedef import EMPTY_DICT

from carbon_pipelines.lake.manifest_entries import live_entries
from carbon_pipelines.lake.manifest_writers import DataManifestWriter, DeleteManifestWriter
from carbon_pipelines.lake.table_files import LiveFile

MERGED_MANIFESTS = 32
"""Small manifests of one kind and spec that are written together as soon as there are so many."""
SMALL_MANIFEST_FILES = 1_000
"""A manifest that lists fewer live files is small."""


@dataclass(frozen=True, slots=True)
class FileChanges:
    """Files that come and go in one snapshot; each group may be empty."""

    added_data: Sequence[DataFile] = ()
    added_deletes: Sequence[DataFile] = ()
    removed_data: Sequence[LiveFile] = ()
    removed_deletes: Sequence[LiveFile] = ()
    manifests: Sequence[ManifestFile] = field(default=())

    def __bool__(self) -> bool:
        """Whether any file comes or goes."""
        return bool(
            self.added_data or self.added_deletes or self.removed_data or self.removed_deletes
        )


class RowDelta(_SnapshotProducer["RowDelta"]):
    """Adds and removes data and delete files in one snapshot, in one attempt.

    Args:
        transaction: Carries a schema change along, if there is one.
        changes: ``changes.manifests`` are those of the snapshot the plan was made on.
        properties: The snapshot's summary properties.
        branch: The branch whose head the plan was made on.
        schema: Of the added files, if it is not the table's current one.
        same_rows: The files that come hold the rows of those that go. The snapshot's operation is
            then REPLACE, which readers that follow appends and changes pass over.
        forget: No manifest of the snapshot says of a file that it is gone: such an entry carries
            the bounds of the file's columns, which are values of rows.
    """

    def __init__(
        self,
        transaction: Transaction,
        changes: FileChanges,
        properties: Mapping[str, str],
        branch: str = MAIN_BRANCH,
        schema: Schema | None = None,
        *,
        same_rows: bool = False,
        forget: bool = False,
    ) -> None:
        operation = Operation.OVERWRITE
        if not (changes.added_deletes or changes.removed_data or changes.removed_deletes):
            operation = Operation.APPEND
        super().__init__(
            operation,
            transaction,
            transaction._table.io,  # pyright: ignore[reportPrivateUsage]
            snapshot_properties=dict(properties),
            branch=branch,
        )
        self._changes = changes
        self._files_schema, self._same_rows, self._forget = schema, same_rows, forget

    def schema(self) -> Schema:
        """The schema that the snapshot names, for those who read it later by its id."""
        return self._files_schema or super().schema()

    def _commit(self) -> UpdatesAndRequirements:
        (added, *refs), requirements = super()._commit()
        assert isinstance(added, AddSnapshotUpdate)
        snapshot = added.snapshot.model_copy(update={"schema_id": self.schema().schema_id})
        if self._parent_snapshot_id is None:
            requirements = (*requirements, *self._no_other_commit())
        return (AddSnapshotUpdate(snapshot=snapshot), *refs), requirements

    def _no_other_commit(self) -> list[AssertRefSnapshotId]:
        """Every other branch has to stand where it did when this snapshot got its number.

        Catalogs compare the sequence number of a snapshot with the table's only if it has a parent;
        without one, a number that others have taken meanwhile would set the table's back, and
        deletes committed later would not apply to rows committed before.
        """
        refs = self._transaction.table_metadata.refs
        return [
            AssertRefSnapshotId.model_validate({"ref": name, "snapshot-id": ref.snapshot_id})
            for name, ref in refs.items()
        ]

    def commit(self) -> None:
        """Stage the snapshot; unlike PyIceberg's, it is not registered for retries."""
        self._transaction._apply(*self._commit())  # pyright: ignore[reportPrivateUsage]

    def _existing_manifests(self) -> list[ManifestFile]:
        return []

    def _deleted_entries(self) -> list[ManifestEntry]:
        return []

    def _manifests(self) -> list[ManifestFile]:
        changes = self._changes
        kept = self._kept_manifests()
        deletes = self._added(changes.added_deletes, ManifestContent.DELETES)
        data = self._added(changes.added_data, ManifestContent.DATA)
        return [*data, *deletes, *kept]

    def _added(self, files: Iterable[DataFile], content: ManifestContent) -> list[ManifestFile]:
        by_spec: dict[int, list[DataFile]] = {}
        for file in files:
            by_spec.setdefault(file.spec_id, []).append(file)
        manifests: list[ManifestFile] = []
        for spec_id, several in sorted(by_spec.items()):
            with self._writer(self.spec(spec_id), content) as writer:
                for file in several:
                    writer.add(
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.ADDED,
                            snapshot_id=self._snapshot_id,
                            sequence_number=None,
                            file_sequence_number=None,
                            data_file=file,
                        )
                    )
            manifests.append(writer.to_manifest_file())
        return manifests

    def _kept_manifests(self) -> list[ManifestFile]:
        """The plan's manifests; those that list a removed file are rewritten without it.

        Small ones are written together once there are many, so that reading the thousandth
        snapshot's manifests takes what the tenth's did.
        """
        removed: dict[str, set[str]] = {}
        for live in (*self._changes.removed_data, *self._changes.removed_deletes):
            removed.setdefault(live.manifest_path, set()).add(live.file.file_path)
        kept: list[ManifestFile] = []
        small: dict[tuple[int, ManifestContent], list[ManifestFile]] = {}
        for manifest in self._changes.manifests:
            live_files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
            if 0 < live_files < SMALL_MANIFEST_FILES:
                group = (manifest.partition_spec_id, manifest.content)
                small.setdefault(group, []).append(manifest)
            elif live_files:
                kept += self._without([manifest], removed)
        for manifests in small.values():
            together = len(manifests) >= MERGED_MANIFESTS
            groups = [manifests] if together else [[manifest] for manifest in manifests]
            for group in groups:
                kept += self._without(group, removed)
        return kept

    def _without(
        self, manifests: list[ManifestFile], removed: Mapping[str, set[str]]
    ) -> list[ManifestFile]:
        """``manifests`` as one without the removed files; a single one that has none stays."""
        first = manifests[0]
        tells = self._forget and bool(first.deleted_files_count)
        if len(manifests) == 1 and first.manifest_path not in removed and not tells:
            return manifests
        spec = self.spec(manifests[0].partition_spec_id)
        with self._writer(spec, manifests[0].content) as writer:
            for manifest in manifests:
                paths = removed.get(manifest.manifest_path, set())
                for entry in live_entries(manifest, self._io):
                    if entry.data_file.file_path not in paths:
                        writer.existing(entry)
                    elif not self._forget:
                        writer.delete(entry)
        return [writer.to_manifest_file()]

    def _writer(self, spec: PartitionSpec, content: ManifestContent) -> ManifestWriter:
        kind = DeleteManifestWriter if content == ManifestContent.DELETES else DataManifestWriter
        return kind(
            spec, self.schema(), self.new_manifest_output(), self._snapshot_id, self._compression
        )

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        metadata = self._transaction.table_metadata
        metrics = UpdateMetrics()
        for file in (*self._changes.added_data, *self._changes.added_deletes):
            metrics.add_file(file)
        for live in (*self._changes.removed_data, *self._changes.removed_deletes):
            metrics.remove_file(live.file)
        parent = self._parent_snapshot_id
        previous = metadata.snapshot_by_id(parent) if parent is not None else None
        summary = update_snapshot_summaries(
            Summary(self._operation, **metrics.to_dict(), **snapshot_properties),
            previous.summary if previous is not None else None,
        )
        if self._same_rows:
            # PyIceberg counts for every operation but this one
            return Summary(Operation.REPLACE, **summary.additional_properties)
        return summary
