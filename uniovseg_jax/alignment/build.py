"""Makes the pairs of a set of captioned images, or takes them from where they were kept."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Bool, Float
from PIL import Image

from uniovseg_jax.alignment.captioned import CaptionedImages
from uniovseg_jax.alignment.pairs import ImageRegions, choose_confident, match_costs, pair_margins
from uniovseg_jax.alignment.regions import (
    AlignmentConfig,
    BoxedImage,
    PendingRegions,
    RegionGenerator,
    box_image,
)
from uniovseg_jax.alignment.store import (
    IMAGES_PER_SHARD,
    PairStore,
    StoredImage,
    open_store,
)
from uniovseg_jax.alignment.store_writer import Row, StoreWriter
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.data.skipped import SkippedRecords
from uniovseg_jax.models.adapter import source_names
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained, params_sha256

_PREVIEW_SIDE = 256


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a store is built, beside what is in it.

    Attributes:
      vectors: Whether to keep the pooled vectors of `pairs` alone or of `all` regions.
      max_skipped: Largest share of images that cannot be read.
      share: Number of this process and of all processes; each writes its own shards.
      wait: Returns when every process has come there; it takes the name of the place.
      progress: Whether to show a progress bar.
    """

    vectors: str = "pairs"
    max_skipped: float = 0.0
    share: tuple[int, int] = (0, 1)
    wait: Callable[[str], None] = lambda place: None
    progress: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for another choice of vectors."""
        if self.vectors not in ("pairs", "all"):
            raise ValueError(f"vectors is {self.vectors!r}; expected pairs or all.")


def build_pairs(
    pretrained: Pretrained,
    images: CaptionedImages,
    config: AlignmentConfig,
    directory: str | os.PathLike[str],
    source: Mapping[str, Any],
    options: BuildOptions = BuildOptions(),
) -> PairStore:
    """Pairs the masks and entities of every image and keeps them.

    A finished store of the same settings is returned as it is; the images are not touched then.
    One that was not finished is gone on with, and has the same bytes in the end.

    Args:
      pretrained: The frozen model, with the parts `clip` and `masks`.
      images: Those without entities give no pairs.
      config: How pairs are found.
      directory: Of the store.
      source: JSON values that identify the images (data set, seed, split).
      options: How the store is built.

    Raises:
      ValueError: If the directory holds something else, another process is at it, an image has too
        many entities, too many images cannot be read, or no image gave a pair.
    """
    frozen = {name: pretrained.variables[name] for name in ("params", "fixed")}
    frozen["params"] = {k: v for k, v in frozen["params"].items() if k != "adapter"}
    settings = {
        "source": {**source, "images": len(images)},
        "config": dataclasses.asdict(config),
        "vectors": options.vectors,
        "align_scales": list(pretrained.config.align_scales),
        "adapter_sources": _adapter_sources(pretrained),
        "pooling": pretrained.config.pooling,
        "points_per_side": pretrained.config.points_per_side,
        "params_sha256": params_sha256(frozen),
    }
    if (store := open_store(directory, settings)) is not None:
        return store
    process, num_processes = options.share
    num_shards = -(-len(images) // IMAGES_PER_SHARD)
    encoder = TextEncoder(pretrained, config.templates)
    writer = StoreWriter(directory, settings)
    with writer.held() if process == 0 else contextlib.nullcontext():
        options.wait("the store is prepared")
        numbers = range(process, num_shards, num_processes)
        missing = [number for number in numbers if not writer.has_shard(number)]
        generator = RegionGenerator(pretrained, config, encoder)
        with tqdm.tqdm(
            desc="pairs",
            total=sum(len(_shard_range(number, images)) for number in numbers),
            initial=sum(len(_shard_range(n, images)) for n in numbers if n not in missing),
            disable=not options.progress or process > 0,
            mininterval=1.0,
        ) as bar:
            skipped = SkippedRecords(options.max_skipped)
            for number in missing:
                found = _match_images(generator, images, _shard_range(number, images), skipped)
                stored = []
                for image in found:
                    stored.append(_lean(image) if options.vectors == "pairs" else image)
                    bar.update()
                writer.write_shard(number, stored)
        options.wait("all shards are written")
        if process == 0:
            finish_store(writer, num_shards, config.confident_share, encoder.embed)
        options.wait("the store is finished")
    return PairStore(directory)


def _read_boxed(
    images: CaptionedImages, index: int, generator: RegionGenerator, skipped: SkippedRecords
) -> tuple[CaptionRecord, BoxedImage]:
    """Returns a caption and its image as the generator takes it.

    An image that cannot be read is grey and has no entities left.

    Raises:
      ValueError: If there are too many of those, or the image has too many entities.
    """
    caption = generator.usable(images.caption(index))
    try:
        pixels = images.image(index)
    except (ValueError, OSError) as error:
        skipped.count(caption.id, ValueError(str(error)))
        pixels = np.full((generator.side, generator.side, 3), 128, np.uint8)
        caption = dataclasses.replace(
            caption, entities=(), num_entities=0, status="failed", error=str(error)
        )
    else:
        skipped.count()
    return caption, box_image(pixels, generator.side)


def _match_images(
    generator: RegionGenerator,
    images: CaptionedImages,
    indices: range,
    skipped: SkippedRecords,
) -> Iterator[StoredImage]:
    """Yields images with their pairs; the host matches while the device has the next batch."""
    waiting: tuple[list[CaptionRecord], PendingRegions] | None = None
    size = generator.config.batch_size
    for start in range(indices.start, indices.stop, size):
        rows = [
            _read_boxed(images, index, generator, skipped)
            for index in range(start, min(start + size, indices.stop))
        ]
        captions = [caption for caption, _ in rows]
        texts = [[entity.text for entity in caption.entities] for caption in captions]
        pending = generator.start([boxed for _, boxed in rows], texts)
        if waiting is not None:
            yield from _match_batch(*waiting, generator.config)
        waiting = captions, pending
    if waiting is not None:
        yield from _match_batch(*waiting, generator.config)


def _match_batch(
    captions: Sequence[CaptionRecord], pending: PendingRegions, config: AlignmentConfig
) -> Iterator[StoredImage]:
    for caption, regions in zip(captions, pending.wait(), strict=True):
        image = ImageRegions(
            caption=caption,
            masks=regions.masks(),
            scores=regions.scores,
            costs=regions.costs,
            pooled=regions.pooled,
            vector_rows=np.arange(len(regions.scores)),
        )
        pairs = match_costs(regions.costs, config.topk, config.min_cosine)
        yield StoredImage(image, pairs, _preview(regions.boxed))


def finish_store(
    writer: StoreWriter,
    num_shards: int,
    confident_share: float,
    embed: Callable[[Sequence[str]], Float[np.ndarray, "m e"]],
) -> None:
    """Chooses the confident pairs of all shards and writes what they teach.

    Raises:
      ValueError: If there is no pair.
    """
    counts = {"images": 0, "regions": 0, "entities": 0, "pairs": 0}
    margins = []
    for image in writer.images(num_shards):
        counts["images"] += 1
        counts["regions"] += len(image.regions.masks)
        counts["entities"] += len(image.regions.entities)
        counts["pairs"] += len(image.pairs)
        margins.append(pair_margins(image.regions.costs, image.pairs))
    if not counts["pairs"]:
        raise ValueError("No image gave a pair: no mask was kept or no entity was found.")
    confident = choose_confident(np.concatenate(margins), confident_share)
    rows = _rows(writer.images(num_shards), confident)
    writer.finish(num_shards, rows, int(confident.sum()), embed, confident, counts)


def _rows(images: Iterator[StoredImage], confident: Bool[np.ndarray, " p"]) -> Iterator[Row]:
    chosen = iter(confident.tolist())
    for image in images:
        for region, entity in image.pairs.tolist():
            if next(chosen):
                yield image.regions.vectors(region), image.regions.entities[entity]


def _shard_range(number: int, images: CaptionedImages) -> range:
    start = number * IMAGES_PER_SHARD
    return range(start, min(start + IMAGES_PER_SHARD, len(images)))


def _adapter_sources(pretrained: Pretrained) -> list[str]:
    """Returns the names of the maps whose pooled vectors the generator makes."""
    adapter = pretrained.config.adapter
    return list(source_names(adapter)) if adapter and adapter.mode == "pooled" else []


def _lean(image: StoredImage) -> StoredImage:
    kept = image.regions.with_vectors_of(image.pairs[:, 0])
    return dataclasses.replace(image, regions=kept)


def _preview(boxed: BoxedImage) -> bytes:
    width, height = boxed.content_wh
    picture = Image.fromarray(np.ascontiguousarray(boxed.pixels[:height, :width]))
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
