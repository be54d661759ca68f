"""Pictures of the images that went worst: the image, its truth, and what was predicted."""

import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.files import write_whole
from uniovseg_jax.packed_masks import PackedMasks
from uniovseg_jax.visualize import contact_sheet, distinct_colours, overlay

WORST_FILE = "worst.png"
_CELL = 384


def rank_images(done: dict[str, dict[str, Any]]) -> list[tuple[str, float]]:
    """Returns image ids with how well they went, worst first, by the first task that tells."""
    tasks = dict.fromkeys(task for result in done.values() for task in result["quality"])
    for task in tasks:
        known = [
            (image_id, result["quality"][task])
            for image_id, result in done.items()
            if result["quality"].get(task) is not None
        ]
        if known:
            return sorted(known, key=lambda item: (item[1], item[0]))
    return []


def write_worst(
    scorer: NamedScorer | PromptScorer,
    benchmark: Benchmark,
    done: dict[str, dict[str, Any]],
    count: int,
    folder: pathlib.Path,
) -> None:
    """Writes `worst.png`; nothing if no image can be ranked. The images are predicted once more."""
    worst = rank_images(done)[:count]
    if not worst:
        return
    model = scorer.on_device(jax.local_devices()[0])
    pictures: list[np.ndarray] = []
    titles: list[str] = []
    for image_id, quality in worst:
        draw = _draw_named if isinstance(scorer, NamedScorer) else _draw_prompted
        image, truth, predicted = draw(scorer, benchmark, model, image_id)
        pictures += [image, truth, predicted]
        titles += [image_id, "truth", f"predicted: {100 * quality:.1f} %"]
    sheet = contact_sheet(pictures, titles, 3, _CELL)
    write_whole(folder / WORST_FILE, Image.fromarray(sheet).save)


def _draw_named(
    scorer: Any, benchmark: Benchmark, model: Any, image_id: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truths, image = scorer.read(image_id)
    task, truth = scorer.tasks[0], truths[0]
    pair = task.maps(truth, model, model.propose(image))
    assert benchmark.classes is not None
    names = [info.name for info in benchmark.classes.classes]
    colours = distinct_colours([f"{index} {name}" for index, name in enumerate(names)])
    drawn = []
    for classes in pair:
        captions = {int(k) + 1: names[int(k)] for k in np.unique(classes) if k >= 0}
        drawn.append(overlay(image, classes + 1, colours, captions))
    return image, drawn[0], drawn[1]


def _draw_prompted(
    scorer: Any, benchmark: Benchmark, model: Any, image_id: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    del benchmark
    image, truth = scorer.read(image_id)
    best = next(iter(scorer.best(model, image_id, image, truth).values()))
    return image, draw_masks(image, truth.masks), draw_masks(image, best.masks, truth.masks)


def draw_masks(
    image: UInt8[np.ndarray, "h w 3"], masks: PackedMasks, order: PackedMasks | None = None
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Draws masks, each in a colour of its own, small ones over large ones.

    Args:
      image: Of the masks' size.
      masks: To draw.
      order: Masks whose areas decide what is over what; None for `masks`.
    """
    label_map: Int32[np.ndarray, "h w"] = np.zeros(image.shape[:2], np.int32)
    for row in np.argsort(-(order or masks).areas, kind="stable").tolist():
        label_map[masks.mask(row)] = row + 1
    return overlay(image, label_map, distinct_colours([f"mask {n}" for n in range(len(masks))]))
