"""Conceptual Captions: lines of caption, tab, address; images that somebody downloaded before."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.record import CaptionRecord, ImageReference
from uniovseg_jax.captions.sources.source import (
    MAX_CAPTION,
    checked_captions,
    describe_file,
    require_file,
)
from uniovseg_jax.data.mask_sources.source import Skipped

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_ADDRESS = re.compile(r"https?://[!-~]{1,2000}")


class Cc3m:
    """`Train_GCC-training.tsv` with a folder of images that are named by row, from 0.

    The image of row 10012 is `000010012.jpg` (any number of zeros; png and webp too), directly in
    the folder or in folders one level below, as img2dataset writes it with 10,000 images a shard.
    """

    name = "cc3m_tsv"
    total = None

    def __init__(self, path: str | os.PathLike[str], images: str | os.PathLike[str] | None):
        """Lists the images.

        Args:
          path: The TSV file.
          images: Their folder; None or empty if they are not on this disk: records then refer to
            the addresses.

        Raises:
          FileNotFoundError: If the file or the folder is not there.
          ValueError: If two images are those of one row.
        """
        self._path = require_file(path, "TSV file")
        self.has_images = bool(images)
        self._images = _by_row(pathlib.Path(images)) if images else {}

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the file."""
        return {"layout": self.name, **describe_file(self._path), "images": len(self._images)}

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields the rows in their order; those whose image was not downloaded are skipped."""
        with self._path.open("rb") as file:
            row = -1
            # A line without an end could fill the memory.
            while line := file.readline(4 * MAX_CAPTION):
                row += 1
                name = f"{self._path.name}, row {row}"
                if not line.endswith(b"\n") and len(line) == 4 * MAX_CAPTION:
                    raise ValueError(f"{name} has no end; is it a TSV file?")
                columns = line.decode("utf-8", "replace").rstrip("\r\n").split("\t")
                try:
                    if len(columns) != 2 or not _ADDRESS.fullmatch(columns[1]):
                        raise ValueError("Expected a caption, a tab, and an address with http.")
                    captions = checked_captions(columns[0])
                except ValueError as error:
                    yield Skipped(name, "bad entry", str(error))
                    continue
                image = ImageReference("url", columns[1])
                if self.has_images:
                    if row not in self._images:
                        yield Skipped(name, "dead address", "There is no image of this row.")
                        continue
                    image = ImageReference("file", self._images[row])
                yield CaptionRecord(f"{row:09d}", image, captions, source=self.name)


def _by_row(folder: pathlib.Path) -> dict[int, str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no image folder {folder}.")
    found: dict[int, str] = {}
    with_folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    for parent in with_folders:
        for entry in os.scandir(parent):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in _SUFFIXES or not stem.isdecimal() or len(stem) > 18:
                continue
            path = pathlib.Path(entry.path).relative_to(folder).as_posix()
            if other := found.get(int(stem)):
                raise ValueError(f"{folder} holds {other} and {path}: one row, two images.")
            found[int(stem)] = path
    if not found:
        raise ValueError(f"{folder} holds no image named by its row, such as 000000012.jpg.")
    return found
