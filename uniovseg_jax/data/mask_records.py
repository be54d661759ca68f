"""Image-mask records by index, from the shards of `scripts/prepare_data.py` or a tfds folder."""

import bisect
import collections
import concurrent.futures
import itertools
import operator
import os
import pathlib
import threading
from typing import Any, SupportsIndex

import tqdm
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from uniovseg_jax.data.manifest import Shard, file_sha256, read_manifest
from uniovseg_jax.data.records import MaskRecord, decode_record
from uniovseg_jax.data.shard_writer import count_records
from uniovseg_jax.data.tfds_masks import TFDS_FILE, TfdsMasks, open_tfds_masks

# Files held open: fewer than the usual limit of 1,024 per process.
_MAX_OPEN = 256
# Digests are computed outside Python's lock, so that threads share the work.
_VERIFY_THREADS = 8
_READER_OPTIONS = {"options": "readahead_buffer_size:0", "file_reader_buffer_size": 1 << 15}


class MaskRecords:
    """Records of a folder of shards, in the order in which they were written.

    Threads may share it; a copy in another process opens the files anew.

    Attributes:
      manifest: What the folder says that it holds.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        """Opens a folder; names and sizes of all shards are compared with the manifest.

        Raises:
          FileNotFoundError: If the folder has no manifest.
          ValueError: If the manifest is damaged or a shard is missing, extra or of another size.
        """
        self._directory = pathlib.Path(directory)
        self.manifest = read_manifest(self._directory)
        self._ends = list(itertools.accumulate(shard.records for shard in self.manifest.shards))
        _check_files(self._directory, self.manifest.shards)
        self._reset()

    def __len__(self) -> int:
        return self.manifest.num_records

    def __getitem__(self, index: SupportsIndex) -> MaskRecord:
        """Reads a record; see `records` for what is in it.

        Raises:
          IndexError: If the index is negative or too large.
          ValueError: If the record is damaged; names shard and index.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside the {len(self)} records.")
        number = bisect.bisect_right(self._ends, index)
        position = index - (self._ends[number] - self.manifest.shards[number].records)
        try:
            return decode_record(self._reader(number).read([position])[0])
        except (ValueError, RuntimeError, IndexError) as error:
            path = self._directory / self.manifest.shards[number].file
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
        shards = self.manifest.shards[process::num_processes]
        _check_files(self._directory, self.manifest.shards)
        with concurrent.futures.ThreadPoolExecutor(_VERIFY_THREADS) as pool:
            checks = pool.map(self._verify_shard, shards)
            bar = tqdm.tqdm(checks, "verifying shards", len(shards), unit="shard", delay=2)
            complaints = [complaint for complaint in bar if complaint]
        if complaints:
            raise ValueError(_and_others(complaints))

    def _verify_shard(self, shard: Shard) -> str | None:
        path = self._directory / shard.file
        if file_sha256(path) != shard.sha256:
            return f"{path} is not the file that was written: its digest differs."
        if (found := count_records(path)) != shard.records:
            return f"{path} holds {found} records, the manifest says {shard.records}."
        return None

    def _reader(self, number: int) -> Any:
        with self._lock:
            if number in self._readers:
                self._readers.move_to_end(number)
            else:
                path = self._directory / self.manifest.shards[number].file
                self._readers[number] = array_record_module.ArrayRecordReader(
                    str(path), **_READER_OPTIONS
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


def open_mask_records(directory: str | os.PathLike[str]) -> MaskRecords | TfdsMasks:
    """Opens image-mask records of either layout.

    Raises:
      FileNotFoundError: If there is no such folder, or a conversion that did not finish.
      ValueError: If it is neither layout, or a broken one.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no data folder {directory}.")
    if (directory / TFDS_FILE).is_file():
        return open_tfds_masks(directory)
    return MaskRecords(directory)


def _check_files(directory: pathlib.Path, shards: tuple[Shard, ...]) -> None:
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
