"""What the text pipeline asks of every reader, and what readers share."""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from uniovseg_jax.captions.record import CaptionRecord, ImageReference, clean_text
from uniovseg_jax.data.mask_sources.source import FilePart, Skipped
from uniovseg_jax.json_fields import parse_json

# Of all captions of one image, in characters.
MAX_CAPTION = 1 << 20
# What is left out for these reasons is no fault of the source and counts towards no limit.
EXPECTED_REASONS = ("excluded", "dead address")
# The largest file of COCO's annotations has 0.5 GB.
_MAX_EXCLUSION_BYTES = 1 << 30
_LAST_NUMBER = re.compile(r"(\d{1,18})\D*$")
# "coco" as a word of a path or address, or the folder and the twelve digits of COCO's own layout.
_OF_COCO = re.compile(
    r"(?<![a-z])(?:ms)?coco(?:dataset)?(?![a-z])|(?:^|/)(?:train|val)20\d\d/\d{12}(?!\d)"
)


@runtime_checkable
class CaptionSource(Protocol):
    """Captioned images in one of the published layouts."""

    @property
    def name(self) -> str:
        """Name of the layout."""
        ...

    @property
    def total(self) -> int | None:
        """How many records there are, at most; None if only reading them all tells."""
        ...

    @property
    def has_images(self) -> bool:
        """Whether the images are on this disk."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what the manifest should say of the source: names, sizes, no full paths."""
        ...

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields records in an order that only the source decides; images are not opened."""
        ...


class Exclusion:
    """Numbers of COCO images that must not be trained on, such as those of val2017."""

    def __init__(self, path: str | os.PathLike[str] | None):
        """Reads the numbers.

        Args:
          path: An annotation file of COCO, or a text file with a number in each line; None or
            empty excludes nothing.

        Raises:
          FileNotFoundError: If there is no such file.
          ValueError: If it is neither.
        """
        self._numbers: frozenset[int] = frozenset()
        self._name = None
        if not path:
            return
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path} of images to exclude.")
        self._name = path.name
        try:
            self._numbers = _numbers_of(FilePart(path).read(_MAX_EXCLUSION_BYTES))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """Returns name and number of what is excluded."""
        return {"exclude": self._name, "num_excluded": len(self._numbers)}

    def covers_number(self, image_id: int) -> bool:
        """Says whether this image of COCO is excluded."""
        return image_id in self._numbers

    def covers_path(self, path: str) -> bool:
        """Says whether a path or address is that of an excluded image of COCO.

        Other sets number their images too, so that it has to hold the word "coco", or end as in
        `val2017/000000000139.jpg`.
        """
        if not self._numbers or not _OF_COCO.search(path.lower()):
            return False
        match = _LAST_NUMBER.search(pathlib.PurePosixPath(path).stem)
        return match is not None and int(match.group(1)) in self._numbers


def require_file(path: str | os.PathLike[str], what: str) -> pathlib.Path:
    """Returns the path of a file that is there.

    Raises:
      FileNotFoundError: If it is not.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} {path}.")
    return path


def safe_path(path: Any, what: str = "The image path") -> str:
    """Returns a path from outside that stays below the folder which it is looked up in.

    Raises:
      ValueError: If it is absolute, climbs with "..", is empty or overlong, or no text.
    """
    good = isinstance(path, str) and 0 < len(path) < 2048 and not set(path) & set("\\\0\n")
    good = good and clean_text(path) == path
    parts = path.split("/") if good else []
    # The first part is empty where the path is absolute; a colon there is a Windows drive.
    if not good or ".." in parts or not parts[0] or ":" in parts[0]:
        raise ValueError(
            f"{what} is {str(path)[:80]!r}, expected a relative one with slashes that does not "
            "climb."
        )
    return path


def checked_captions(captions: Any) -> tuple[str, ...]:
    """Returns captions from outside as texts that UTF-8 can hold; empty ones may stay.

    Raises:
      ValueError: If they are no texts or hold more than `MAX_CAPTION` characters.
    """
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise ValueError(f"The caption is {str(captions)[:40]!r}, expected text or a list of it.")
    if sum(map(len, captions)) > MAX_CAPTION:
        raise ValueError(f"The caption has more than {MAX_CAPTION} characters.")
    return tuple(clean_text(text).strip() for text in captions)


def file_image(path: Any) -> ImageReference:
    """Returns a reference to a file below the image folder.

    Raises:
      ValueError: If the path does not stay below it.
    """
    return ImageReference("file", safe_path(path))


def describe_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns name and size, by which a changed source is noticed."""
    return {"file": path.name, "bytes": path.stat().st_size}


def _numbers_of(content: bytes) -> frozenset[int]:
    if content.lstrip()[:1] in (b"{", b"["):
        document = parse_json(content)
        images = document.get("images") if isinstance(document, dict) else document
        entries = images if isinstance(images, list) else [None]
        numbers: list[Any] = [
            entry.get("id") if isinstance(entry, dict) else entry for entry in entries
        ]
    else:
        words = content.decode("ascii", "replace").split()
        numbers = [int(word) if word.isdecimal() else word for word in words]
    wrong = [number for number in numbers if type(number) is not int]
    if wrong or not numbers:
        found = json.dumps(wrong[0])[:40] if wrong else "nothing"
        raise ValueError(
            f'It holds {found}; expected an object with "images" of COCO, or a number a line.'
        )
    return frozenset(numbers)
