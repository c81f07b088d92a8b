"""Files of a table that no snapshot refers to: what killed writers leave behind."""

from pyarrow.fs import FileSelector, S3FileSystem
from pyiceberg.table import Table


def unreferenced_files(table: Table) -> list[str]:
    """Data and delete files under the table's location that no snapshot of any branch lists."""
    referenced: set[str] = set()
    for snapshot in table.snapshots():
        for manifest in snapshot.manifests(table.io):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
                referenced.add(entry.data_file.file_path)
    properties = table.io.properties
    store = S3FileSystem(
        endpoint_override=properties["s3.endpoint"],
        access_key=properties["s3.access-key-id"],
        secret_key=properties["s3.secret-access-key"],
        region=properties["s3.region"],
    )
    prefix = table.location().removeprefix("s3://") + "/data"
    found = store.get_file_info(FileSelector(prefix, recursive=True))
    return sorted(
        f"s3://{f.path}" for f in found if f.is_file and f"s3://{f.path}" not in referenced
    )
