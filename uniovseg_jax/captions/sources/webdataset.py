"""Tars of webdataset's layout, as img2dataset writes them; read in place, never unpacked."""

import os
import pathlib
import re
import tarfile
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.record import CaptionRecord, ImageReference
from uniovseg_jax.captions.sources.source import (
    MAX_CAPTION,
    Exclusion,
    checked_captions,
    describe_file,
    safe_path,
)
from uniovseg_jax.data.mask_sources.source import FilePart, Skipped
from uniovseg_jax.data.tar_members import tar_members
from uniovseg_jax.json_fields import parse_json

_IMAGES = ("jpg", "jpeg", "png", "webp")
# The key of a sample is the name up to the first dot of its last part.
_NAME = re.compile(r"((?:[^/]*/)*[^/.]+)\.([^/]+)")


class WebdatasetTars:
    """Members `<key>.jpg`, `<key>.txt` and `<key>.json` of one key stand next to each other.

    The caption is the text file, or else `caption` of the JSON file. Other members are no business
    of ours and are passed over.
    """

    name = "webdataset_tar"
    total = None
    has_images = True

    def __init__(self, path: str | os.PathLike[str], exclusion: Exclusion):
        """Lists the tars.

        Args:
          path: A tar, or a folder of tars, which are read in the order of their names.
          exclusion: Images of COCO to leave out, known by `url` of the JSON file.

        Raises:
          FileNotFoundError: If there is nothing at `path`.
          ValueError: If it holds no tar.
        """
        path = pathlib.Path(path)
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}: expected a tar or a folder of tars.")
        self._tars = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not self._tars:
            raise ValueError(f"{path} holds no file ending in .tar.")
        self._exclusion = exclusion
        # Where the references of the records are looked up.
        self.image_folder = path if path.is_dir() else path.parent

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the tars."""
        return {
            "layout": self.name,
            "tars": [describe_file(tar) for tar in self._tars],
            **self._exclusion.describe(),
        }

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields the samples tar by tar, in their order.

        Raises:
          ValueError: If a tar is compressed, damaged or cut off; names it.
        """
        for tar in self._tars:
            key, parts = None, {}
            for member in tar_members(tar):
                if member.isdir():
                    continue
                match = _NAME.fullmatch(member.name)
                try:
                    safe_path(member.name)
                    if not match or not member.isreg() or member.issparse():
                        raise ValueError("Expected a regular file named <key>.<kind>.")
                except ValueError as error:
                    # Names from outside may hold anything; repr makes them fit to be printed.
                    name = f"{tar.name}/{member.name[:200]!r}"
                    yield Skipped(name, "foreign member", str(error))
                    continue
                if match[1] != key:
                    if key is not None:
                        yield from self._record(tar, key, parts)
                    key, parts = match[1], {}
                parts[match[2].lower()] = member
            if key is not None:
                yield from self._record(tar, key, parts)

    def _record(
        self, tar: pathlib.Path, key: str, parts: dict[str, tarfile.TarInfo]
    ) -> Iterator[CaptionRecord | Skipped]:
        image = next((parts[kind] for kind in _IMAGES if kind in parts), None)
        name = f"{tar.name}/{key}"
        if not image and not {"txt", "json"} & parts.keys():
            return
        if image is None:
            yield Skipped(name, "no image", f"The tar has no {' or '.join(_IMAGES)} of this key.")
            return
        try:
            about = _read(tar, parts["json"]) if "json" in parts else b"{}"
            document = parse_json(about)
            document = document if isinstance(document, dict) else {}
            if "txt" in parts:
                captions = checked_captions(_read(tar, parts["txt"]).decode("utf-8", "replace"))
            else:
                captions = checked_captions(document.get("caption"))
        except ValueError as error:
            yield Skipped(name, "bad entry", str(error))
            return
        address = document.get("url")
        if isinstance(address, str) and self._exclusion.covers_path(address):
            yield Skipped(name, "excluded", f"{address[:200]!r} is to be left out.")
            return
        reference = ImageReference("tar", tar.name, image.name)
        yield CaptionRecord(f"{tar.stem}/{key}", reference, captions, source=self.name)


def _read(tar: pathlib.Path, member: tarfile.TarInfo) -> bytes:
    return FilePart(tar, member.offset_data, member.size).read(4 * MAX_CAPTION)
