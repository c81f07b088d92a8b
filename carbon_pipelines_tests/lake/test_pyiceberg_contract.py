"""The private parts of PyIceberg that modules of the lake build on still look as they did.

A change here is no defect: read what changed, adapt the subclass, then this file.
"""

import inspect
from typing import Any

import pytest
from pyiceberg.avro.file import AvroFile
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.manifest import (
    ManifestContent,
    ManifestWriter,
    ManifestWriterV2,
    _inherit_from_manifest,
)
from pyiceberg.partitioning import PartitionKey
from pyiceberg.table import Transaction
from pyiceberg.table.snapshots import UpdateMetrics
from pyiceberg.table.update.snapshot import _SnapshotProducer

SIGNATURES = {
    _SnapshotProducer.__init__: [
        "self",
        "operation",
        "transaction",
        "io",
        "commit_uuid",
        "snapshot_properties",
        "branch",
    ],
    _SnapshotProducer._commit: ["self"],
    _SnapshotProducer._manifests: ["self"],
    _SnapshotProducer._summary: ["self", "snapshot_properties"],
    _SnapshotProducer.schema: ["self"],
    _SnapshotProducer.fetch_manifest_entry: ["self", "manifest", "discard_deleted"],
    Transaction._stage: ["self", "updates", "requirements"],
    Transaction._apply: ["self", "updates", "requirements"],
    Transaction._register_snapshot_producer: ["self", "producer"],
    ManifestWriterV2.__init__: [
        "self",
        "spec",
        "schema",
        "output_file",
        "snapshot_id",
        "avro_compression",
    ],
    ManifestWriter.existing: ["self", "entry"],
    ManifestWriter.delete: ["self", "entry"],
    AvroFile.__init__: ["self", "input_file", "read_schema", "read_types", "read_enums"],
    construct_reader: ["file_schema", "read_types"],
    resolve_reader: ["file_schema", "read_schema", "read_types", "read_enums"],
    _inherit_from_manifest: ["entry", "manifest"],
    UpdateMetrics.add_file: ["self", "data_file"],
    UpdateMetrics.remove_file: ["self", "data_file"],
}


@pytest.mark.parametrize("method", SIGNATURES, ids=lambda method: method.__qualname__)
def test_a_private_method_takes_what_we_give_it(method: Any) -> None:
    assert list(inspect.signature(method).parameters) == SIGNATURES[method]


def test_a_producers_commit_asks_for_its_manifests_summary_and_manifest_list() -> None:
    source = inspect.getsource(_SnapshotProducer._commit)

    assert "self._manifests()" in source
    assert "self._summary(self.snapshot_properties)" in source
    assert "(\n                    add_snapshot_update,\n" in source


def test_only_a_registered_producer_is_retried() -> None:
    assert "not self._snapshot_producers" in inspect.getsource(Transaction.commit_transaction)
    assert "_register_snapshot_producer" in inspect.getsource(_SnapshotProducer.commit)


def test_a_manifest_writer_names_its_content_in_two_places() -> None:
    assert isinstance(inspect.getattr_static(ManifestWriterV2, "_meta"), property)
    assert ManifestWriterV2.content(None) is ManifestContent.DATA  # type: ignore[arg-type]
    assert '"content": "data"' in inspect.getsource(ManifestWriterV2._meta.fget)
    assert "content=self.content()" in inspect.getsource(ManifestWriter.to_manifest_file)


def test_a_partition_key_keeps_its_record_where_we_put_it() -> None:
    assert inspect.getattr_static(PartitionKey, "partition").attrname == "partition"
