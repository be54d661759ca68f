"""What the conversion asks of every source, and what a source offers it."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

# Of an image file and of an annotation of one image, in bytes; larger ones are refused unread.
MAX_IMAGE_BYTES = 1 << 27
MAX_ANNOTATION_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class FilePart:
    """Bytes of a file, which are read where they are needed: in a worker.

    Attributes:
      path: The file.
      offset: Where they begin.
      size: How many; None for all up to the end.
    """

    path: pathlib.Path
    offset: int = 0
    size: int | None = None

    def read(self, limit: int) -> bytes:
        """Returns the bytes.

        Raises:
          ValueError: If the file cannot be read, ends too early, or there are more than `limit`.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(limit + 1 if self.size is None else min(self.size, limit + 1))
        except OSError as error:
            raise ValueError(f"{self.path.name} cannot be read: {error.strerror}.") from error
        if len(content) > limit:
            raise ValueError(f"It has more than {limit} bytes.")
        if self.size is not None and len(content) < self.size:
            raise ValueError(f"{self.path.name} ends within it.")
        return content


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What an annotation says of one image.

    Attributes:
      height: Of the image, in pixels.
      width: Of the image, in pixels.
      masks: Run-length masks as they came, unchecked, with their scores if there are any.
      dropped: Masks that the source leaves out, by reason.
    """

    height: int
    width: int
    masks: list[Any]
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An image and its annotation, found but not yet read; small, and may go to another process.

    Attributes:
      id: Unique within the source.
      name: Of the file or entry, for the list of skipped records.
      image: The encoded image.
      read_annotation: Reads the masks; raises ValueError for anything that is wrong.
    """

    id: str
    name: str
    image: FilePart
    read_annotation: Callable[[], Annotation]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that cannot become a record.

    Attributes:
      name: Of the file or entry.
      reason: In a word or two, to count by.
      detail: A sentence.
    """

    name: str
    reason: str
    detail: str


@runtime_checkable
class MaskSource(Protocol):
    """A data set in one of the published layouts."""

    @property
    def total(self) -> int | None:
        """How many candidates there are, at most; None if only reading them all tells."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns what the manifest should say of the source: names and options, no full paths."""
        ...

    def candidates(self) -> Iterator[Candidate | Skipped]:
        """Yields those of the sample in an order that only the source decides."""
        ...


def is_plain_name(name: Any) -> bool:
    """Says whether a name from outside is that of a file directly in a folder."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode(errors="replace")) < 256
        and name not in (".", "..")
        and not set("/\\\0") & set(name)
    )
