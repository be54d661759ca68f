"""Records by index from array_record shards, whose names, sizes and digests a manifest knows."""

import bisect
import collections
import concurrent.futures
import itertools
import operator
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import tqdm
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from uniovseg_jax.data.array_record_file import count_records
from uniovseg_jax.data.manifest import Shard, file_sha256

# Files held open: fewer than the usual limit of 1,024 per process.
_MAX_OPEN = 256
# Digests are computed outside Python's lock, so that threads share the work.
_VERIFY_THREADS = 8
_READER_OPTIONS = {"options": "readahead_buffer_size:0", "file_reader_buffer_size": 1 << 15}


class ShardedRecords:
    """Records of folders of shards, in the order in which they were written.

    Threads may share it; a copy in another process opens the files anew.
    """

    def __init__(
        self,
        folders: Sequence[tuple[pathlib.Path, Sequence[Shard]]],
        decode: Callable[[bytes], Any],
    ):
        """Opens folders; names and sizes of all shards are compared with what is expected.

        Args:
          folders: With the shards that each should hold.
          decode: From the bytes of a record to what is returned; raises ValueError for bad ones. A
            function of a module, so that a copy can go to another process.

        Raises:
          ValueError: If a shard is missing, extra or of another size.
        """
        self._folders = [(directory, tuple(shards)) for directory, shards in folders]
        self._shards = [
            (directory / shard.file, shard)
            for directory, shards in self._folders
            for shard in shards
        ]
        self._ends = list(itertools.accumulate(shard.records for _, shard in self._shards))
        self._decode = decode
        self._check_files()
        self._reset()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Reads a record.

        Raises:
          IndexError: If the index is negative or too large.
          ValueError: If the record is damaged; names shard and index.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside the {len(self)} records.")
        number = bisect.bisect_right(self._ends, index)
        path, shard = self._shards[number]
        position = index - (self._ends[number] - shard.records)
        try:
            return self._decode(self._reader(number).read([position])[0])
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"Record {index} is damaged ({path}, position {position}): {error}."
            ) from error

    def verify(self, process: int = 0, num_processes: int = 1) -> None:
        """Compares count and digest of the shards with the manifest.

        Args:
          process: Of several that verify together: this one takes every `num_processes`-th shard.
          num_processes: How many there are.

        Raises:
          ValueError: If a shard is not what was written; names it.
        """
        shards = self._shards[process::num_processes]
        self._check_files()
        with concurrent.futures.ThreadPoolExecutor(_VERIFY_THREADS) as pool:
            checks = pool.map(_verify_shard, shards)
            bar = tqdm.tqdm(checks, "verifying shards", len(shards), unit="shard", delay=2)
            complaints = [complaint for complaint in bar if complaint]
        if complaints:
            raise ValueError(_and_others(complaints))

    def _check_files(self) -> None:
        for directory, shards in self._folders:
            _check_files(directory, shards)

    def _reader(self, number: int) -> Any:
        with self._lock:
            if number in self._readers:
                self._readers.move_to_end(number)
            else:
                self._readers[number] = array_record_module.ArrayRecordReader(
                    str(self._shards[number][0]), **_READER_OPTIONS
                )
                # Not closed by hand: another thread may be reading from it.
                if len(self._readers) > _MAX_OPEN:
                    self._readers.popitem(last=False)
            return self._readers[number]

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._readers: collections.OrderedDict[int, Any] = collections.OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"], state["_readers"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _verify_shard(located: tuple[pathlib.Path, Shard]) -> str | None:
    path, shard = located
    if file_sha256(path) != shard.sha256:
        return f"{path} is not the file that was written: its digest differs."
    if (found := count_records(path)) != shard.records:
        return f"{path} holds {found} records, the manifest says {shard.records}."
    return None


def _check_files(directory: pathlib.Path, shards: Sequence[Shard]) -> None:
    """Compares names and sizes with the manifest; cheap for any number of shards."""
    # Only shards: other files, such as a lock, may go while one looks.
    shard_files = [path for path in directory.iterdir() if "array_record" in path.name]
    sizes = {path.name: path.stat().st_size for path in shard_files}
    complaints = []
    for shard in shards:
        size = sizes.pop(shard.file, None)
        if size is None:
            complaints.append(f"{directory / shard.file} is missing.")
        elif size != shard.bytes:
            complaints.append(
                f"{directory / shard.file} has {size} bytes, the manifest says {shard.bytes}."
            )
    complaints += [f"{directory / name} is not in the manifest." for name in sorted(sizes)]
    if complaints:
        raise ValueError(_and_others(complaints))


def _and_others(complaints: list[str]) -> str:
    """Returns the first complaint and how many more there are."""
    if len(complaints) == 1:
        return complaints[0]
    return f"{complaints[0]} {len(complaints) - 1} more like this."
