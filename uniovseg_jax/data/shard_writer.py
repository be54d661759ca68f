"""Writes encoded records into array_record shards that appear whole, one by one."""

import contextlib
import pathlib
import re
from types import TracebackType

from uniovseg_jax.data.array_record_file import ArrayRecordFile
from uniovseg_jax.data.manifest import MANIFEST_FILE, Shard, file_sha256
from uniovseg_jax.locks import LOCK_FILE, check_only_ours

SKIPPED_FILE = "skipped.jsonl"
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
        self._writer: ArrayRecordFile | None = None
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
            with contextlib.suppress(OSError):
                self._writer.close()
            self._temporary().unlink(missing_ok=True)

    def write(self, encoded: bytes) -> None:
        """Appends a record.

        Raises:
          OSError: If it cannot be written.
        """
        if self._writer is None:
            self._writer = ArrayRecordFile(self._temporary())
        self._writer.write(encoded)
        self._in_shard += 1
        if self._in_shard == self._records_per_shard:
            self._finish_shard()

    def _finish_shard(self) -> None:
        assert self._writer is not None
        temporary = self._temporary()
        path = self._directory / f"masks-{len(self.shards):05d}.array_record"
        self._writer.close()
        temporary.rename(path)
        self.shards.append(Shard(path.name, self._in_shard, path.stat().st_size, file_sha256(path)))
        self._writer, self._in_shard = None, 0

    def _temporary(self) -> pathlib.Path:
        return self._directory / f".masks-{len(self.shards):05d}.array_record.tmp"


def check_folder(directory: pathlib.Path) -> None:
    """Makes sure that a conversion may write to a folder; changes nothing.

    Raises:
      ValueError: If the folder is finished or holds anything that no conversion wrote.
    """
    if (directory / MANIFEST_FILE).exists():
        raise ValueError(f"{directory} holds a finished conversion; delete it or choose another.")
    check_only_ours(directory, _OURS, "no conversion wrote")


def _clear(directory: pathlib.Path) -> None:
    check_folder(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for path in list(directory.iterdir()):
        if path.name != LOCK_FILE:  # Of the conversion that is about to write.
            path.unlink()
