"""Measures how many training examples of stage 1 a processor core makes in a second.

python scripts/measure_loader.py --config=configs/full.py:stage1 [--data=<folder of records>]

Without --data it draws records like those of SA-1B first: pictures of 1500 x 2250, as JPEG files of
0.8 MB, with 100 masks. Reading, decoding, augmentation, packing and batching run as in training,
with one thread; images per second are of processor time, so that other work on the machine counts
little.
"""

import io
import pathlib
import sys
import tempfile
import time
from typing import Any

import ml_collections
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from PIL import Image, ImageFilter

from uniovseg_jax.command_line import parse_flags
from uniovseg_jax.data import pipeline
from uniovseg_jax.data.manifest import Manifest, write_manifest
from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.records import encode_record
from uniovseg_jax.data.shard_writer import ShardWriter
from uniovseg_jax.masks import rle_encode

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration of a phase stage1.")
_DATA = flags.DEFINE_string("data", None, "Folder made by scripts/prepare_data.py.")
_COUNT = flags.DEFINE_integer("count", 60, "Number of examples.", lower_bound=1)
flags.mark_flags_as_required(["config"])

_HEIGHT, _WIDTH, _MASKS = 1500, 2250, 100
# Pictures that are drawn, and times that each is written: shuffling a handful of records costs
# Grain milliseconds for each (5.7 ms for 3 records, 0.2 ms for 100, 0.02 ms for millions).
_PICTURES, _COPIES = 3, 40


def main(_: list[str]) -> None:
    """Prints one line."""
    config = _CONFIG.value
    try:
        with tempfile.TemporaryDirectory() as folder:
            if not _DATA.value:
                write_records(pathlib.Path(folder))
            measure(config, open_mask_records(_DATA.value or folder))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def measure(config: ml_collections.ConfigDict, records: Any) -> None:
    """Prints how fast batches come."""
    if config.phase != "stage1":
        raise ValueError(f"--config is of phase {config.phase}; expected stage1.")
    size, batch_size = config.model.image_size, 4
    transform = pipeline.make_stage1_transform(config.data, size, config.seed)
    batches = iter(pipeline.make_batches(records, transform, batch_size, 0, num_threads=1))
    for _ in range(4):  # Those that are made ahead of time.
        next(batches)
    num_batches = _COUNT.value // batch_size
    wall, processor, kept = time.perf_counter(), time.process_time(), 0
    for _ in range(num_batches):
        kept += int(next(batches)["mask_valid"].sum())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    count = num_batches * batch_size
    print(
        f"{count / processor:.1f} images per second of one core ({count / wall:.1f} by the clock), "
        f"{size} px, {kept / count:.1f} masks kept of an image"
    )


def write_records(folder: pathlib.Path) -> None:
    """Writes a shard of drawn records."""
    pictures, count = draw_records(_PICTURES), _PICTURES * _COPIES
    with ShardWriter(folder, count) as writer:
        for number in range(count):
            writer.write(encode_record({**pictures[number % _PICTURES], "id": str(number)}))
    manifest = Manifest({}, {}, count, count * _MASKS, {}, {}, tuple(writer.shards))
    write_manifest(folder, manifest)


def draw_records(count: int) -> list[dict]:
    """Returns records of the size of SA-1B's: smooth noise, and blobs of all sizes as masks."""
    rng, records = np.random.default_rng(0), []
    for _ in range(count):
        noise = rng.integers(0, 256, (_HEIGHT // 6, _WIDTH // 6, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.filter(ImageFilter.GaussianBlur(1)).save(buffer, "JPEG", quality=77)
        masks = [rle_encode(draw_blob(rng)) for _ in range(_MASKS)]
        for mask in masks:
            mask["counts"] = mask["counts"].encode()
        image = {"image": buffer.getvalue(), "height": _HEIGHT, "width": _WIDTH}
        records.append({"masks": masks, **image})
    return records


def draw_blob(rng: np.random.Generator) -> np.ndarray:
    """Returns a mask with a ragged border, of 0.03 % to 20 % of the image."""
    radius = np.sqrt(_HEIGHT * _WIDTH * np.exp(rng.uniform(np.log(3e-4), np.log(0.2))) / np.pi)
    y, x = rng.uniform(0, _HEIGHT), rng.uniform(0, _WIDTH)
    rows, columns = np.ogrid[:_HEIGHT, :_WIDTH]
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    reach = 1.4 * radius
    near_rows = np.flatnonzero(np.abs(rows[:, 0] - y) < reach)
    near_columns = np.flatnonzero(np.abs(columns[0] - x) < reach)
    rows, columns = rows[near_rows], columns[:, near_columns]
    angle = np.arctan2(rows - y, columns - x)
    waves = rng.integers(2, 30, 4)[:, None, None] * angle + rng.uniform(0, 6, (4, 1, 1))
    edge = radius * (1 + 0.1 * np.sin(waves).sum(axis=0))
    mask = np.zeros((_HEIGHT, _WIDTH), bool)
    mask[np.ix_(near_rows, near_columns)] = np.hypot(rows - y, columns - x) < edge
    return mask


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
