"""Captioned images by index: what the alignment reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from uniovseg_jax.captions.caption_records import CaptionRecords
from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.captions.record import CaptionRecord, Entity, ImageReference, Tool
from uniovseg_jax.image_io import decode_image


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
      entities: Per scene what a parser without mistakes finds in that caption, in place of the
        `rules`. Only an experiment that says so may use it.
    """

    def __init__(
        self, source: Any, quality: str, entities: Mapping[str, Sequence[str]] | None = None
    ):
        if quality not in ("raw", "refined"):
            raise ValueError(f"data.caption is {quality!r}; expected raw or refined.")
        self._source, self._quality, self._entities = source, quality, entities
        self._parser = Tool("rules" if entities is None else "oracle")
        self._refiner = Tool("identity" if quality == "raw" else "tinyscenes")

    def __len__(self) -> int:
        return len(self._source)

    def caption(self, index: int) -> CaptionRecord:
        """Returns the texts of a scene and what the parser finds in the chosen one."""
        record = self._source[index]
        if self._entities is None:
            texts = parse_rules(record[self._quality])
        else:
            texts = self._entities[record["id"]]
        entities = tuple(Entity(text) for text in texts)
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


class CaptionedFolder:
    """A folder of images and entities that `scripts/prepare_captions.py` wrote."""

    def __init__(self, records: CaptionRecords):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def caption(self, index: int) -> CaptionRecord:
        """Returns a caption."""
        return self._records[index]["record"]

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the pixels.

        Raises:
          ValueError: If the image or its record is damaged.
        """
        record = self._records[index]
        return decode_image(record["image"], f"The image of record {record['id']}")


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


class SeveralCaptions:
    """The same images with the entities of several captions at once, each of them once.

    What is found for all of them serves each source on its own, see `derive.derive_pairs`.
    """

    def __init__(self, sources: Sequence[CaptionedImages]):
        """Takes sources of the same images in the same order, at least one."""
        self._sources = list(sources)

    def __len__(self) -> int:
        return len(self._sources[0])

    def caption(self, index: int) -> CaptionRecord:
        """Returns the first source's caption with the entities of all."""
        captions = [source.caption(index) for source in self._sources]
        entities = {entity.text: entity for c in captions for entity in c.entities}
        return dataclasses.replace(
            captions[0],
            entities=tuple(entities.values()),
            num_entities=len(entities),
            status="ok" if entities else "empty",
        )

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Returns pixels."""
        return self._sources[0].image(index)
