"""Batches for the phases: shuffled, repeated without end, augmented, resumable.

All randomness of an example comes from the seed and the example's position in the endless stream,
so that threads, restarts and the number of devices do not change what is seen.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import grain.python as grain
import ml_collections
import numpy as np
from PIL import Image

from uniovseg_jax.data import transforms
from uniovseg_jax.data.crop import PADDING, Crop
from uniovseg_jax.data.skipped import SkippedRecords
from uniovseg_jax.image_io import open_image

Record = dict[str, Any]
Example = dict[str, Any]

# Batches that wait ready made, beside those that threads are working on.
_NUM_WAITING = 2


def make_batches(
    source: Any,
    transform: Callable[[int, Any], Example],
    batch_size: int,
    seed: int,
    share: tuple[int, int] = (0, 1),
    num_threads: int = 0,
) -> grain.IterDataset:
    """Returns an endless dataset of batches; its iterator has `get_state` and `set_state`.

    The state counts batches: it is the same for every share of the stream, and with any number of
    them.

    Args:
      source: Anything with `len` and `[i]`.
      transform: Maps an example's position in the endless stream and its record to arrays.
      batch_size: Examples per batch, those of other processes included; every batch is full.
      seed: Decides the order, another one in every epoch.
      share: Number of this process and of all processes; each reads as many examples of a batch,
        the first process the first ones.
      num_threads: That make batches ahead of time, each a whole one; 0 for one per core.

    Raises:
      ValueError: If the source is empty, the batch cannot be shared equally, or the number of
        threads is negative.
    """
    if num_threads < 0:
        raise ValueError(f"loader_threads is {num_threads}; expected 0 or more.")
    if not len(source):
        raise ValueError("The data source is empty; expected at least one example.")
    process, num_processes = share
    if batch_size % num_processes:
        raise ValueError(f"batch_size is {batch_size}; expected a multiple of {num_processes}.")
    stream = grain.MapDataset.source(source).shuffle(seed=seed).repeat()
    stream = stream.map_with_index(transform)
    own = batch_size // num_processes
    dataset = grain.MapDataset.source(_Share(stream, process * own, own, batch_size))
    dataset = dataset.batch(own, drop_remainder=True)
    num_threads = num_threads or os.cpu_count() or 1
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=num_threads + _NUM_WAITING
    )
    return dataset.to_iter_dataset(options)


class _Share:
    """Some rows of every batch of an endless stream."""

    def __init__(self, stream: grain.MapDataset, first: int, count: int, batch_size: int):
        self._stream, self._first, self._count = stream, first, count
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(self._stream) // self._batch_size * self._count

    def __getitem__(self, index: int) -> Example:
        batch, row = divmod(index, self._count)
        example = self._stream[batch * self._batch_size + self._first + row]
        assert example is not None  # Only filters leave gaps.
        return example


def make_clip_transform(
    config: ml_collections.ConfigDict, tokenize: Callable[[list[str]], np.ndarray], seed: int
) -> Callable[[int, Record], Example]:
    """Returns the transform of the phase `clip`: picture, text, and the whole caption.

    Args:
      config: `scale_range`, `brightness` and `phrase_rate`, how often a part of the caption stands
        for the whole, see `transforms.draw_phrase`.
      tokenize: Maps texts to token ids.
      seed: Of the augmentation.
    """

    def transform(position: int, record: Record) -> Example:
        rng = np.random.default_rng((seed, 1, position))
        image = np.asarray(record["image"])
        image = transforms.jitter_scale(image, rng.uniform(*config.scale_range), rng)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        image = transforms.jitter_brightness(image, rng, config.brightness)
        caption = text = record["caption"]
        if rng.random() < config.phrase_rate:
            text = transforms.draw_phrase(caption, rng)
        tokens, caption_tokens = tokenize([text, caption])
        return {"image": image, "tokens": tokens, "caption": caption_tokens}

    return transform


def make_stage1_transform(
    config: ml_collections.ConfigDict, image_size: int, seed: int, augment: bool = True
) -> Callable[[int, Record], Example]:
    """Returns the transform of the phase `stage1`: image, masks, points and boxes.

    A record holds "image", pixels or a JPEG or PNG file, and "masks", run lengths.

    Args:
      config: `max_instances`, `area_range`, `points_per_side`, `num_boxes`, `scale_range`,
        `max_skipped` (see `SkippedRecords`), `colour_jitter` (see `transforms.draw_colours`), and
        `brightness`, which counts where that is off.
      image_size: Side of the network's input.
      seed: Of augmentation and prompts.
      augment: False leaves image and masks as they are; the prompts are drawn all the same.
    """
    skips = SkippedRecords(config.max_skipped)

    def transform(position: int, record: Record) -> Example:
        try:
            example = make_example(position, record)
        except ValueError as error:
            skips.count(record["id"], error)
            # Nothing to learn from, and nothing moves in the order of the stream.
            empty = Image.new("RGB", (image_size, image_size), (PADDING,) * 3)
            return make_example(position, {"image": np.asarray(empty), "masks": []})
        skips.count()
        return example

    def make_example(position: int, record: Record) -> Example:
        rng = np.random.default_rng((seed, 2, position))
        scale, offset, flip = 1.0, 0.0, False
        if augment:
            scale = rng.uniform(*config.scale_range)
            offset, flip = rng.random(), bool(rng.random() < 0.5)
        # Pixels of a file are not decoded before the cut is known.
        with _open_image(record) as image:
            crop = Crop(image.height, image.width, image_size, scale, offset, flip)
            content = crop.cut_image(image)
        colours = {}
        if augment and config.colour_jitter:
            # The pixels change on the device: converting colours is half of the work here.
            colours = {
                "colours": transforms.draw_colours(rng),
                "content_hw": np.array(crop.content_hw, np.int32),
            }
        elif augment:
            pixels = transforms.jitter_brightness(np.asarray(content), rng, config.brightness)
            content = Image.fromarray(pixels)
        blocks = transforms.choose_masks(
            record["masks"], crop, config.max_instances, config.area_range, rng
        )
        boxes, box_index, box_valid = transforms.draw_boxes(blocks, config.num_boxes, rng)
        return {
            "image": crop.pad(content),
            "mask_bits": transforms.pack_masks(blocks, config.max_instances, image_size),
            "mask_valid": np.arange(config.max_instances) < len(blocks),
            "points": transforms.jittered_points(
                config.points_per_side, (crop.content_hw[1], crop.content_hw[0]), rng
            ),
            "boxes": boxes,
            "box_index": box_index,
            "box_valid": box_valid,
            **colours,
        }

    return transform


@contextlib.contextmanager
def _open_image(record: Record) -> Iterator[Image.Image]:
    if isinstance(record["image"], bytes):
        name = f"The image of record {record['id']}"
        with open_image(io.BytesIO(record["image"]), name) as image:
            yield image
    else:
        yield Image.fromarray(np.asarray(record["image"]))
