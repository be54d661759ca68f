"""Captions and regions made up for tests."""

import dataclasses

import numpy as np

from uniovseg_jax.alignment.captioned import CaptionedImage
from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.alignment.store import StoredImage
from uniovseg_jax.captions.record import CaptionRecord, Entity, ImageReference, Tool


class CaptionedList:
    """Captions and pixels that are in memory already."""

    def __init__(self, rows):
        self._rows = list(rows)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        caption, pixels = self._rows[index]
        return CaptionedImage(caption, lambda: pixels)


def make_caption(name, entities):
    return CaptionRecord(
        id=name,
        image=ImageReference("file", f"{name}.jpg"),
        caption_raw=(f"raw {name}",),
        caption=" and ".join(entities),
        entities=tuple(Entity(text) for text in entities),
        num_entities=len(entities),
        source="made",
        refiner=Tool("identity"),
        parser=Tool("rules"),
        status="ok" if entities else "empty",
    )


def make_regions(name, entities, costs, pooled, masks=None):
    n = costs.shape[1]
    return ImageRegions(
        caption=make_caption(name, entities),
        masks=tuple(masks or ({"size": [2, 2], "counts": str(i)} for i in range(n))),
        kept=np.arange(n),
        scores=np.linspace(1, 0.5, n, dtype=np.float32),
        costs=costs,
        pooled=pooled,
    )


def keep_regions(image, regions):
    """Returns an image that keeps some of its regions."""
    kept = np.unique(regions)
    return dataclasses.replace(
        image,
        kept=kept,
        masks=tuple(image.masks[region] for region in kept),
        pooled={key: values[kept] for key, values in image.pooled.items()},
    )


def write_store(writer, stored, embed, confident=None):
    """Writes a shard of images, and targets from its pairs."""
    stored = [
        StoredImage(regions, np.asarray(pairs, np.int32), b"jpeg") for regions, pairs in stored
    ]
    rows = [
        (image.regions.vectors(region), image.regions.entities[entity])
        for image in stored
        for region, entity in image.pairs.tolist()
    ]
    confident = np.ones(len(rows), bool) if confident is None else confident
    rows = [row for row, chosen in zip(rows, confident, strict=True) if chosen]
    with writer.held():
        writer.write_shard(0, stored)
        counts = {"images": len(stored), "pairs": len(confident)}
        writer.finish(1, rows, len(rows), embed, confident, counts)
