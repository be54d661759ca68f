"""Captioned images by index: what the alignment reads."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.captions.record import CaptionRecord, Entity, ImageReference, Tool


@runtime_checkable
class CaptionedImages(Protocol):
    """Random access to captions and, apart from them, to pixels."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def caption(self, index: int) -> CaptionRecord:
        """Returns what is known of the text; cheap."""
        ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the pixels.

        Raises:
          ValueError: If the image cannot be read.
        """
        ...


class CaptionedScenes:
    """The captioned part of a world of tinyscenes.

    Args:
      source: Of `tinyscenes.load_source`, part `image_text`.
      quality: Which of its two captions to parse, `raw` or `refined`.
      parse: From a caption to entities.
      parser: What `parse` is called in the records.
    """

    def __init__(
        self,
        source: Any,
        quality: str,
        parse: Callable[[str], Sequence[str]] = parse_rules,
        parser: str = "rules",
    ):
        if quality not in ("raw", "refined"):
            raise ValueError(f"data.caption is {quality!r}; expected raw or refined.")
        self._source, self._quality, self._parse = source, quality, parse
        self._parser = Tool(parser)
        self._refiner = Tool("identity" if quality == "raw" else "tinyscenes")

    def __len__(self) -> int:
        return len(self._source)

    def caption(self, index: int) -> CaptionRecord:
        """Returns the texts of a scene and what the parser finds in the chosen one."""
        record = self._source[index]
        entities = tuple(Entity(text) for text in self._parse(record[self._quality]))
        height, width = record["image"].shape[:2]
        return CaptionRecord(
            id=record["id"],
            image=ImageReference("file", record["id"], width=width, height=height),
            caption_raw=(record["raw"],),
            caption=record[self._quality],
            entities=entities,
            num_entities=len(entities),
            source="tinyscenes",
            refiner=self._refiner,
            parser=self._parser,
            status="ok" if entities else "empty",
        )

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the pixels of a scene."""
        return np.asarray(self._source[index]["image"])


class Selection:
    """Some of the images of a source."""

    def __init__(self, images: CaptionedImages, indices: Int[np.ndarray, " n"]):
        self._images, self._indices = images, indices.tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def caption(self, index: int) -> CaptionRecord:
        """Returns a caption."""
        return self._images.caption(self._indices[index])

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns pixels."""
        return self._images.image(self._indices[index])


class CaptionedList:
    """Captions and pixels that are in memory already."""

    def __init__(self, rows: Sequence[tuple[CaptionRecord, UInt8[np.ndarray, "h w 3"]]]):
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def caption(self, index: int) -> CaptionRecord:
        """Returns a caption."""
        return self._rows[index][0]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns pixels."""
        return self._rows[index][1]
