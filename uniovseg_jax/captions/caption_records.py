"""Images with their captions and entities by index, from what `prepare_captions.py` wrote."""

import os
import pathlib
import re
from typing import Any, SupportsIndex

from uniovseg_jax.captions.manifest import CaptionManifest, read_caption_manifest
from uniovseg_jax.captions.shards import decode_caption_record
from uniovseg_jax.data.manifest import MANIFEST_FILE
from uniovseg_jax.data.sharded_records import ShardedRecords

_PART = re.compile(r"part-(\d{4})-of-(\d{4})")


class CaptionRecords(ShardedRecords):
    """Records of a finished folder, in the order of the source; parts one after the other.

    Attributes:
      manifests: What the folder, or each of its parts, says that it holds.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        """Opens a folder; names and sizes of all shards are compared with the manifest.

        `verify` compares digests as well.

        Raises:
          FileNotFoundError: If the folder or one of its parts is not there or not finished.
          ValueError: If a manifest is damaged, a shard is missing, extra or of another size, or
            the folder holds no images.
        """
        folders = find_parts(pathlib.Path(directory))
        self.manifests = tuple(_finished(folder) for folder in folders)
        pairs = zip(folders, self.manifests, strict=True)
        super().__init__(
            [(folder, manifest.shards) for folder, manifest in pairs], decode_caption_record
        )

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Reads a record: `id`, `image` (an upright JPEG or PNG file), `record` (CaptionRecord).

        Raises:
          IndexError: If the index is negative or too large.
          ValueError: If the record is damaged; names shard and index.
        """
        return super().__getitem__(index)


def open_caption_records(directory: str | os.PathLike[str]) -> CaptionRecords:
    """Opens a finished output in the form array_record; see `CaptionRecords`."""
    return CaptionRecords(directory)


def part_name(part: tuple[int, int]) -> str:
    """Returns the folder of part i of n within the output."""
    return f"part-{part[0]:04d}-of-{part[1]:04d}"


def find_parts(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folder itself, or its parts where `--shard` made them.

    Raises:
      FileNotFoundError: If there is no such folder, or a part is missing.
      ValueError: If parts of different runs lie together.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory} of captions.")
    matches = [match for path in directory.iterdir() if (match := _PART.fullmatch(path.name))]
    if (directory / MANIFEST_FILE).is_file() or not matches:
        return [directory]
    totals = {int(match[2]) for match in matches}
    if len(totals) > 1:
        raise ValueError(f"{directory} holds parts of different runs: of {sorted(totals)}.")
    total = totals.pop()
    names = [part_name((index, total)) for index in range(total)]
    missing = [name for name in names if not (directory / name).is_dir()]
    if missing:
        raise FileNotFoundError(f"{directory} has no {missing[0]}: not every part was prepared.")
    return [directory / name for name in names]


def _finished(folder: pathlib.Path) -> CaptionManifest:
    manifest = read_caption_manifest(folder)
    if manifest is None or not manifest.done:
        raise FileNotFoundError(
            f"{folder} is not finished: run prepare_captions.py again, it goes on from there."
        )
    if any(not shard.file.endswith(".array_record") for shard in manifest.shards):
        raise ValueError(
            f"{folder} holds lines of JSON without images; prepare it with output=array_record."
        )
    return manifest
