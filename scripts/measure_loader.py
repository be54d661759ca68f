"""Measures how many training examples of stage 1 a processor core makes in a second.

python scripts/measure_loader.py --config=configs/full.py:stage1 [--data=<folder of records>]

Without --data it draws records like those of SA-1B first: pictures of 1500 x 2250, as JPEG files of
0.8 MB, with 100 masks.
Reading, decoding, augmentation and packing run in one thread, as in one of Grain's; images per
second are of processor time, so that other work on the machine counts little.
"""

import io
import sys
import time

import numpy as np
from absl import app, flags
from ml_collections import config_flags
from PIL import Image, ImageFilter

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration of a phase stage1.")
_DATA = flags.DEFINE_string("data", None, "Folder made by scripts/prepare_data.py.")
_COUNT = flags.DEFINE_integer("count", 60, "Number of examples.", lower_bound=1)
flags.mark_flags_as_required(["config"])

_HEIGHT, _WIDTH, _MASKS = 1500, 2250, 100


def main(argv: list[str]) -> None:
    """Prints one line."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; expected only flags.")
    from uniovseg_jax.data import pipeline
    from uniovseg_jax.data.mask_records import open_mask_records

    config = _CONFIG.value
    try:
        records = open_mask_records(_DATA.value) if _DATA.value else draw_records(3)
        size = config.model.image_size
        transform = pipeline.make_stage1_transform(config.data, size, config.seed)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    transform(0, records[0])  # Whatever is done once.
    wall, processor = time.perf_counter(), time.process_time()
    kept = 0
    for position in range(_COUNT.value):
        example = transform(position, records[position % len(records)])
        kept += int(example["mask_valid"].sum())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"{_COUNT.value / processor:.1f} images per second of one core "
        f"({_COUNT.value / wall:.1f} by the clock), {size} px, "
        f"{kept / _COUNT.value:.1f} masks kept of an image"
    )


def draw_records(count: int) -> list[dict]:
    """Returns records of the size of SA-1B's: smooth noise, and blobs of all sizes as masks."""
    from uniovseg_jax.masks import rle_encode

    rng, records = np.random.default_rng(0), []
    for number in range(count):
        noise = rng.integers(0, 256, (_HEIGHT // 6, _WIDTH // 6, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        picture.filter(ImageFilter.GaussianBlur(1)).save(buffer, "JPEG", quality=77)
        masks = [rle_encode(draw_blob(rng)) for _ in range(_MASKS)]
        records.append({"id": f"drawn {number}", "image": buffer.getvalue(), "masks": masks})
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
    app.run(main)
