"""Makes the pairs of a set of captioned images, or takes them from where they were kept."""

import concurrent.futures
import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Bool
from PIL import Image

from uniovseg_jax.alignment.captioned import CaptionedImages
from uniovseg_jax.alignment.pairs import (
    ImageRegions,
    choose_confident,
    match_costs,
    pair_margins,
    regions_to_keep,
)
from uniovseg_jax.alignment.reading import read_boxed
from uniovseg_jax.alignment.regions import (
    AlignmentConfig,
    BoxedImage,
    PendingRegions,
    RegionGenerator,
    Regions,
)
from uniovseg_jax.alignment.store import (
    IMAGES_PER_SHARD,
    PairStore,
    StoredImage,
    open_store,
    read_shard,
    shard_path,
)
from uniovseg_jax.alignment.store_settings import describe_model, find_earlier
from uniovseg_jax.alignment.store_writer import Row, StoreWriter
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.data.skipped import SkippedRecords
from uniovseg_jax.data.threads import map_in_threads
from uniovseg_jax.text_encoder import EmbedTexts, TextEncoder
from uniovseg_jax.weights.store import Pretrained

_PREVIEW_SIDE = 256


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How a store is built, beside what is in it.

    Attributes:
      keep: Whether to keep masks and pooled vectors of the regions in `pairs`, and of those that
        came next, or of `all`.
      max_skipped: Largest share of images that cannot be read.
      share: Number of this process and of all processes; each writes its own shards.
      wait: Returns when every process has come there; it takes the name of the place.
      num_threads: That read images ahead of time and encode masks; 0 for one per core.
      progress: Whether to show a progress bar.
    """

    keep: str = "pairs"
    max_skipped: float = 0.0
    share: tuple[int, int] = (0, 1)
    wait: Callable[[str], None] = lambda place: None
    num_threads: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for another choice of what to keep."""
        if self.keep not in ("pairs", "all"):
            raise ValueError(f"keep is {self.keep!r}; expected pairs or all.")


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
    Nor are they where a store of other settings holds the costs, and all regions that are in pairs
    now: pairs are chosen from these. One that was not finished is gone on with, and has the same
    bytes in the end.

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
    settings = {
        "source": {**source, "images": len(images)},
        "config": dataclasses.asdict(config),
        "keep": options.keep,
        "model": describe_model(pretrained),
        "align_scales": list(pretrained.config.align_scales),
    }
    if (store := open_store(directory, settings)) is not None:
        return store
    earlier = find_earlier(directory, settings, config)
    process, num_processes = options.share
    shards = [
        range(start, min(start + IMAGES_PER_SHARD, len(images)))
        for start in range(0, len(images), IMAGES_PER_SHARD)
    ]
    # Whether a run was ended and goes on must not show in any bit.
    encoder = TextEncoder(pretrained, config.templates, one_by_one=True)
    writer = StoreWriter(directory, settings)
    with writer.held() if process == 0 else contextlib.nullcontext():
        options.wait("the store is prepared")
        own = range(process, len(shards), num_processes)
        missing = [number for number in own if not writer.has_shard(number)]
        total = sum(len(shards[number]) for number in own)
        done = total - sum(len(shards[number]) for number in missing)
        generator = RegionGenerator(pretrained, config, encoder)
        skipped = SkippedRecords(options.max_skipped, seen=done)
        with tqdm.tqdm(
            desc="pairs",
            total=total,
            initial=done,
            disable=not options.progress or process > 0,
            mininterval=1.0,
        ) as bar:
            for number in missing:
                if earlier is not None:
                    found = _choose_pairs(earlier, number, config)
                else:
                    found = _match_images(generator, images, shards[number], skipped, options)
                stored = []
                for image in found:
                    stored.append(image)
                    bar.update()
                writer.write_shard(number, stored)
        options.wait("all shards are written")
        if process == 0:
            finish_store(
                writer, len(shards), config.confident_share, encoder.embed, options.max_skipped
            )
        options.wait("the store is finished")
    return PairStore(directory)


def _choose_pairs(store: PairStore, number: int, config: AlignmentConfig) -> Iterator[StoredImage]:
    """Yields the images of a shard with other pairs, from their kept costs."""
    for stored in read_shard(shard_path(store.directory, number)):
        pairs = match_costs(stored.regions.costs, config.topk, config.min_cosine)
        yield dataclasses.replace(stored, pairs=pairs)


def _match_images(
    generator: RegionGenerator,
    images: CaptionedImages,
    indices: range,
    skipped: SkippedRecords,
    options: BuildOptions,
) -> Iterator[StoredImage]:
    """Yields images with their pairs; the host matches while the device has the next batch."""

    def read(index: int) -> tuple[CaptionRecord, BoxedImage]:
        return read_boxed(images, index, generator.side, skipped)

    num_threads = options.num_threads or os.cpu_count() or 1
    rows = map_in_threads(read, indices, num_threads)
    waiting: PendingRegions | None = None
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        while batch := list(itertools.islice(rows, generator.config.batch_size)):
            pending = generator.start(batch)
            if waiting is not None:
                yield from _match_batch(waiting, generator.config, options.keep, pool)
            waiting = pending
        if waiting is not None:
            yield from _match_batch(waiting, generator.config, options.keep, pool)


def _match_batch(
    pending: PendingRegions, config: AlignmentConfig, keep: str, pool: concurrent.futures.Executor
) -> Iterator[StoredImage]:
    def match(regions: Regions) -> StoredImage:
        pairs = match_costs(regions.costs, config.topk, config.min_cosine)
        every = np.arange(len(regions.scores))
        kept = every if keep == "all" else regions_to_keep(regions.costs, pairs)
        image = ImageRegions(
            caption=regions.caption,
            scores=regions.scores,
            costs=regions.costs,
            kept=kept,
            masks=regions.masks(kept),
            pooled={key: values[kept] for key, values in regions.pooled.items()},
        )
        return StoredImage(image, pairs, _preview(regions.boxed))

    return pool.map(match, pending.wait())


def finish_store(
    writer: StoreWriter,
    num_shards: int,
    confident_share: float,
    embed: EmbedTexts,
    max_skipped: float = 1.0,
) -> None:
    """Chooses the confident pairs of all shards and writes what they teach.

    Raises:
      ValueError: If there is no pair, or more images could not be read than `max_skipped` allows.
    """
    counts = {"images": 0, "failed": 0, "regions": 0, "entities": 0, "pairs": 0}
    margins = []
    for image in writer.images(num_shards):
        counts["images"] += 1
        counts["failed"] += image.regions.caption.status == "failed"
        counts["regions"] += len(image.regions.scores)
        counts["entities"] += len(image.regions.entities)
        counts["pairs"] += len(image.pairs)
        margins.append(pair_margins(image.regions.costs, image.pairs))
    if counts["failed"] > max(1.0, max_skipped * counts["images"]):
        raise ValueError(
            f"{counts['failed']} of {counts['images']} images cannot be read, more than the share "
            f"of {max_skipped} that data.max_skipped allows."
        )
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


def _preview(boxed: BoxedImage) -> bytes:
    width, height = boxed.content_wh
    picture = Image.fromarray(np.ascontiguousarray(boxed.pixels[:height, :width]))
    picture.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
