"""Lines of JSON: our own records, or whatever has an image and a caption."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.record import MAX_LINE, CaptionRecord, clean_text, from_json
from uniovseg_jax.captions.sources.source import (
    Exclusion,
    checked_captions,
    describe_file,
    file_image,
    require_file,
    safe_path,
)
from uniovseg_jax.data.mask_sources.source import Skipped
from uniovseg_jax.json_fields import parse_json


class Jsonl:
    """A line is `{"image": "a.jpg", "caption": "..." or ["...", ...], "id"?: "..."}`.

    Without an id the image's path is the id. A line with `caption_raw` is a record of this
    pipeline: its refined caption stays for the refiner `identity`, its entities are made anew. One
    that failed, of `failed.jsonl`, is taken as it was read at first.
    """

    name = "jsonl"
    total = None

    def __init__(self, path: str | os.PathLike[str], exclusion: Exclusion, has_images: bool):
        """Finds the file.

        Args:
          path: The file.
          exclusion: Images of COCO to leave out, known by their path.
          has_images: Whether the images are on this disk.

        Raises:
          FileNotFoundError: If there is no such file.
        """
        self._path = require_file(path, "JSONL file")
        self._exclusion, self.has_images = exclusion, has_images

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the file."""
        return {"layout": self.name, **describe_file(self._path), **self._exclusion.describe()}

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields the lines in their order; blank ones are passed over."""
        with self._path.open("rb") as file:
            number = 0
            # A line without an end could fill the memory.
            while line := file.readline(4 * MAX_LINE):
                number += 1
                name = f"{self._path.name}, line {number}"
                if not line.endswith(b"\n") and len(line) == 4 * MAX_LINE:
                    raise ValueError(f"{name} has no end; is it a JSONL file?")
                if not line.strip():
                    continue
                try:
                    record = _read_line(line.decode("utf-8", "replace").strip(), self.name)
                except ValueError as error:
                    yield Skipped(name, "bad entry", str(error))
                    continue
                if self._exclusion.covers_path(record.image.path):
                    yield Skipped(name, "excluded", f"{record.image.path} is to be left out.")
                    continue
                yield record


def _read_line(line: str, source: str) -> CaptionRecord:
    document: Any = parse_json(line.encode())
    if not isinstance(document, dict):
        raise ValueError("The line is no JSON object.")
    if "caption_raw" in document:
        record = from_json(line)
        if record.image.kind != "url":
            safe_path(record.image.path)
        checked_captions(list(record.caption_raw))
        # What was known of the image is found out anew: it may have been replaced meanwhile.
        image = dataclasses.replace(record.image, sha256=None, width=None, height=None)
        raw = CaptionRecord(record.id, image, record.caption_raw, source=record.source or source)
        if record.status == "failed" or record.refiner is None:
            return raw
        return dataclasses.replace(raw, caption=record.caption, refiner=record.refiner)
    image = file_image(document.get("image"))
    name = document.get("id", image.path)
    if not isinstance(name, (str, int)) or isinstance(name, bool) or not str(name):
        raise ValueError(f"'id' is {str(name)[:40]!r}, expected text.")
    captions = checked_captions(document.get("caption"))
    return CaptionRecord(clean_text(str(name)), image, captions, source=source)
