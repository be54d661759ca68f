"""Writes encoded records into array_record shards that appear whole, one by one."""

import contextlib
import pathlib
import re
from types import TracebackType
from typing import Any

from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from uniovseg_jax.data.manifest import MANIFEST_FILE, Shard, file_sha256
from uniovseg_jax.locks import LOCK_FILE

SKIPPED_FILE = "skipped.jsonl"
# One record per chunk, for random access. JPEGs do not shrink further; decompression would only
# cost time.
SHARD_OPTIONS = "group_size:1,uncompressed"
_OURS = re.compile(
    rf"{re.escape(LOCK_FILE)}|masks-\d{{5}}\.array_record|\.masks-\d{{5}}\.array_record\.tmp"
    rf"|{re.escape(SKIPPED_FILE)}|\.{re.escape(MANIFEST_FILE)}\.[0-9a-f]{{8}}\.tmp\.json"
)


class ShardWriter:
    """Fills shard after shard with a fixed number of records; the same records give the same files.

    Use as a context; `shards` is complete after it. A shard has a temporary name until it is full,
    closed and counted. Nothing here makes the folder readable: the manifest does. Until that is
    written it is up to the caller to keep other conversions out (`locks.held_alone`).
    """

    def __init__(self, directory: pathlib.Path, records_per_shard: int):
        """Makes the folder, or clears what a killed conversion left in it.

        Raises:
          ValueError: If the folder is finished or holds anything that no conversion wrote, or
            `records_per_shard` is below 1.
        """
        if records_per_shard < 1:
            raise ValueError(f"records_per_shard must be at least 1, got {records_per_shard}.")
        self._directory = directory
        self._records_per_shard = records_per_shard
        self._writer: Any = None
        self._in_shard = 0
        self.shards: list[Shard] = []
        _clear(directory)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        if error is None:
            self._finish_shard()
        else:
            # What went wrong first is what counts.
            with contextlib.suppress(RuntimeError):
                self._writer.close()
            self._temporary().unlink(missing_ok=True)

    def write(self, encoded: bytes) -> None:
        """Appends a record.

        Raises:
          OSError: If it cannot be written.
        """
        try:
            if self._writer is None:
                name = str(self._temporary())
                self._writer = array_record_module.ArrayRecordWriter(name, SHARD_OPTIONS)
            self._writer.write(encoded)
        except RuntimeError as error:  # All that array_record raises.
            raise OSError(f"{self._temporary()} cannot be written: {error}.") from error
        self._in_shard += 1
        if self._in_shard == self._records_per_shard:
            self._finish_shard()

    def _finish_shard(self) -> None:
        temporary = self._temporary()
        path = self._directory / f"masks-{len(self.shards):05d}.array_record"
        try:
            self._writer.close()
            # A full disk does not always stop the writer; the count of what lies there tells.
            found = count_records(temporary)
        except RuntimeError as error:
            raise OSError(f"{temporary} cannot be written: {error}.") from error
        if found != self._in_shard:
            raise OSError(
                f"{temporary} holds {found} of {self._in_shard} records: the disk may be full."
            )
        temporary.rename(path)
        self.shards.append(Shard(path.name, found, path.stat().st_size, file_sha256(path)))
        self._writer, self._in_shard = None, 0

    def _temporary(self) -> pathlib.Path:
        return self._directory / f".masks-{len(self.shards):05d}.array_record.tmp"


def count_records(path: pathlib.Path) -> int:
    """Returns the number of records that array_record finds in a file.

    Raises:
      RuntimeError: If it is no array_record file.
    """
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def check_folder(directory: pathlib.Path) -> None:
    """Makes sure that a conversion may write to a folder; changes nothing.

    Raises:
      ValueError: If the folder is finished or holds anything that no conversion wrote.
    """
    if (directory / MANIFEST_FILE).exists():
        raise ValueError(f"{directory} holds a finished conversion; delete it or choose another.")
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; expected a folder for the records.")
    found = sorted(directory.iterdir()) if directory.exists() else []
    foreign = [path.name for path in found if not _OURS.fullmatch(path.name)]
    if foreign:
        raise ValueError(
            f"{directory} holds {foreign[0]!r}, which no conversion wrote; choose an empty folder."
        )


def _clear(directory: pathlib.Path) -> None:
    check_folder(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for path in list(directory.iterdir()):
        if path.name != LOCK_FILE:  # Of the conversion that is about to write.
            path.unlink()
