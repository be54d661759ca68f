"""Captioned images by index: what the alignment reads."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.captions.caption_records import CaptionRecords
from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.captions.record import CaptionRecord, Entity, ImageReference, Tool
from uniovseg_jax.image_io import decode_image


class CaptionedImage(NamedTuple):
    """A caption, and the pixels that it is about once they are asked for.

    Attributes:
      caption: What is known of the text.
      decode: Returns the pixels as uint8 "h w 3"; raises ValueError if they cannot be read.
    """

    caption: CaptionRecord
    decode: Callable[[], UInt8[np.ndarray, "h w 3"]]


@runtime_checkable
class CaptionedImages(Protocol):
    """Random access to captioned images; threads may share it."""

    def __len__(self) -> int:
        """Returns the number of images."""
        ...

    def __getitem__(self, index: int) -> CaptionedImage:
        """Reads a record.

        Raises:
          ValueError: If it is damaged.
        """
        ...


class CaptionedScenes:
    """The captioned part of a world of tinyscenes.

    Args:
      source: Of `tinyscenes.load_source`, part `image_text`.
      quality: Which of its two captions to parse, `raw` or `refined`.
      entities: By scene, in place of those that the parser `rules` finds.
      parser: Where they are from.
    """

    def __init__(
        self,
        source: Any,
        quality: str,
        entities: Mapping[str, Sequence[str]] | None = None,
        parser: str = "rules",
    ):
        if quality not in ("raw", "refined"):
            raise ValueError(f"data.caption is {quality!r}; expected raw or refined.")
        self._source, self._quality, self._entities = source, quality, entities
        self._parser = Tool(parser)
        self._refiner = Tool("identity" if quality == "raw" else "tinyscenes")

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Returns a scene, and what the parser finds in the chosen caption."""
        record = self._source[index]
        if self._entities is None:
            texts = parse_rules(record[self._quality])
        else:
            texts = self._entities[record["id"]]
        entities = tuple(Entity(text) for text in texts)
        pixels = np.asarray(record["image"])
        caption = CaptionRecord(
            id=record["id"],
            image=ImageReference(
                "file", record["id"], width=pixels.shape[1], height=pixels.shape[0]
            ),
            caption_raw=(record["raw"],),
            caption=record[self._quality],
            entities=entities,
            num_entities=len(entities),
            source="tinyscenes",
            refiner=self._refiner,
            parser=self._parser,
            status="ok" if entities else "empty",
        )
        return CaptionedImage(caption, lambda: pixels)


class CaptionedFolder:
    """A folder of images and entities that `scripts/prepare_captions.py` wrote."""

    def __init__(self, records: CaptionRecords):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> CaptionedImage:
        """Reads a record."""
        record = self._records[index]
        name = f"The image of record {record['id']}"
        return CaptionedImage(record["record"], lambda: decode_image(record["image"], name))


class SeveralCaptions:
    """The same images with the entities of several captions at once, each of them once.

    What is found for all of them serves each source on its own, see `derive.derive_pairs`.
    """

    def __init__(self, sources: Sequence[CaptionedImages]):
        """Takes sources of the same images in the same order, at least one."""
        self._sources = list(sources)

    def __len__(self) -> int:
        return len(self._sources[0])

    def __getitem__(self, index: int) -> CaptionedImage:
        """Returns the first source's image and caption with the entities of all."""
        rows = [source[index] for source in self._sources]
        entities = {entity.text: entity for row in rows for entity in row.caption.entities}
        caption = dataclasses.replace(
            rows[0].caption,
            entities=tuple(entities.values()),
            num_entities=len(entities),
            status="ok" if entities else "empty",
        )
        return CaptionedImage(caption, rows[0].decode)
