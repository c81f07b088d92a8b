"""Listing, copying and deleting the objects under a table's location.

What belongs here: an S3 bucket and a local disk behind one interface, in bounded memory, and their
errors. What does not: which objects. Iceberg's own reading and writing goes through PyIceberg; this
is for what its FileIO cannot do: list by pages with ages, delete many at once, copy inside a store.
"""

import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from carbon_pipelines.errors import StoreInterruptedError, StoreRefusedError, StoreUnknownError
from carbon_pipelines.maintenance.locations import normalise
from carbon_pipelines.maintenance.s3_client import CONNECTIONS, shared_client

PAGE = 1_000
"""Objects that one request lists or deletes; the most that S3 has."""
LARGEST_COPY_BYTES = 5 * 1024**3
"""The most that S3 copies in one request."""
WORKERS = CONNECTIONS
"""Requests at the same time, for those that make several."""
T = TypeVar("T")
_REFUSALS = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "403"}
)
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object; ``path`` is its exact name, with the scheme that the store was opened by."""

    path: str
    size_bytes: int
    modified_at: datetime


class Storage(Protocol):
    """A store of objects."""

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Every object under ``prefix`` (as under a directory), by pages."""
        ...

    def stat(self, path: str) -> StoredObject | None:
        """The object, or ``None`` where there is none."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small object's content, or ``None`` where there is none."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Create or replace a small object."""
        ...

    def copy(self, source: str, target: str) -> bool:
        """Copy one object and check that the copy is whole; False: there is no such object."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        ...


def open_storage(location: str, properties: Mapping[str, Any]) -> Storage:
    """The store that ``location`` is in; ``properties`` are those of the table's FileIO.

    Raises:
        StoreUnknownError: Neither S3 nor a local disk.
    """
    name = normalise(location)
    if name.startswith("s3://"):
        return S3Storage(properties)
    if name.startswith("file:"):
        return LocalStorage()
    raise StoreUnknownError(location)


def in_pages(items: Iterable[T], size: int = PAGE) -> Iterator[list[T]]:
    """``items`` in lists of at most ``size``."""
    left = iter(items)
    while page := list(islice(left, size)):
        yield page


class S3Storage:
    """A bucket; safe for several threads."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties

    @cached_property
    def _client(self) -> Any:
        return shared_client(self._properties)

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Every object under ``prefix``, a page of a thousand at a time."""
        bucket, key = _split(prefix)
        scheme = prefix.partition("://")[0]
        answers = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=f"{key.rstrip('/')}/" if key else "", PaginationConfig={}
            )
        )
        while True:
            with _errors(f"listing {prefix}"):
                answer = next(answers, None)
            if answer is None:
                return
            yield [
                StoredObject(f"{scheme}://{bucket}/{o['Key']}", o["Size"], o["LastModified"])
                for o in answer.get("Contents", ())
                if not o["Key"].endswith("/")
            ]

    def stat(self, path: str) -> StoredObject | None:
        """The object, or ``None``."""
        bucket, key = _split(path)
        with _errors(f"looking for {path}"):
            found = _unless_absent(self._client.head_object, Bucket=bucket, Key=key)
        if found is None:
            return None
        return StoredObject(path, found["ContentLength"], found["LastModified"])

    def read(self, path: str) -> bytes | None:
        """The object's content, or ``None``."""
        bucket, key = _split(path)
        with _errors(f"reading {path}"):
            found = _unless_absent(self._client.get_object, Bucket=bucket, Key=key)
            return None if found is None else found["Body"].read()

    def write(self, path: str, content: bytes) -> None:
        """Create or replace the object."""
        bucket, key = _split(path)
        with _errors(f"writing {path}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def copy(self, source: str, target: str) -> bool:
        """Copy inside the store, then compare sizes; False: there is no such object."""
        before = self.stat(source)
        if before is None:
            return False
        (bucket, key), (to_bucket, to_key) = _split(source), _split(target)
        origin = {"Bucket": bucket, "Key": key}
        with _errors(f"copying {source}"):
            done = _unless_absent(
                self._client.copy_object, Bucket=to_bucket, Key=to_key, CopySource=origin
            )
        return done is not None and _check_copy(before, self.stat(target))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete by requests of a thousand."""
        for bucket, group in groupby(sorted(map(_split, paths)), key=lambda one: one[0]):
            for page in in_pages(group):
                self._delete_page(bucket, [key for _, key in page])

    def _delete_page(self, bucket: str, keys: Sequence[str]) -> None:
        doing = f"deleting {len(keys)} objects of {bucket}"
        with _errors(doing):
            answer = self._client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        for failed in answer.get("Errors", ()):
            code = failed.get("Code", "")
            if code in _REFUSALS:
                raise StoreRefusedError(doing, f"{code} for {failed.get('Key')}")
            if code not in _ABSENT:
                raise StoreInterruptedError(doing, f"{code} for {failed.get('Key')}")


class LocalStorage:
    """A directory of this machine."""

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Every file under ``prefix``."""
        scheme = "file://" if prefix.startswith("file:") else ""
        files = (path for path in _local(prefix).rglob("*") if path.is_file())
        for page in in_pages(files):
            yield [_stat_local(f"{scheme}{path}", path) for path in page]

    def stat(self, path: str) -> StoredObject | None:
        """The file, or ``None``."""
        file = _local(path)
        return _stat_local(path, file) if file.is_file() else None

    def read(self, path: str) -> bytes | None:
        """The file's content, or ``None``."""
        file = _local(path)
        return file.read_bytes() if file.is_file() else None

    def write(self, path: str, content: bytes) -> None:
        """Create or replace the file."""
        file = _local(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def copy(self, source: str, target: str) -> bool:
        """Copy the file, then compare sizes; False: there is no such file."""
        before = self.stat(source)
        if before is None:
            return False
        file = _local(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _errors(f"copying {source}"):
            shutil.copyfile(_local(source), file)
        return _check_copy(before, self.stat(target))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete the files."""
        for path in paths:
            with _errors(f"deleting {path}"):
                _local(path).unlink(missing_ok=True)


def _check_copy(source: StoredObject, copy: StoredObject | None) -> bool:
    if copy is None or source.size_bytes != copy.size_bytes:
        raise StoreInterruptedError(f"copying {source.path}", "the copy is not of the same size")
    return True


def _split(path: str) -> tuple[str, str]:
    """Bucket and exact key."""
    bucket, _, key = path.partition("://")[2].partition("/")
    return bucket, key


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://").removeprefix("file:"))


def _stat_local(path: str, file: Path) -> StoredObject:
    facts = file.stat()
    return StoredObject(path, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))


def _unless_absent(request: Any, **arguments: Any) -> Any:
    from botocore.exceptions import ClientError

    try:
        return request(**arguments)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _ABSENT:
            return None
        raise


@contextmanager
def _errors(doing: str) -> Generator[None]:
    """Say of what failed whether trying again is of use."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        facts = error.response.get("Error", {})
        code, reason = str(facts.get("Code", "")), str(error).splitlines()[0][:300]
        if code in _REFUSALS:
            raise StoreRefusedError(doing, reason) from error
        raise StoreInterruptedError(doing, reason) from error
    except (BotoCoreError, OSError) as error:
        raise StoreInterruptedError(doing, str(error).splitlines()[0][:300]) from error
