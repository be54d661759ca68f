"""Pictures of the images that went worst: the image, its truth, and what was predicted."""

import pathlib
from typing import Any

import jax
import numpy as np
import tqdm
from PIL import Image

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.files import write_whole
from uniovseg_jax.visualize import contact_sheet, distinct_colours, draw_masks, overlay, thumbnail

WORST_FILE = "worst.png"
# Side of a picture in pixels, and images in a row of the sheet, three pictures each.
_CELL, _PER_ROW = 384, 2


def rank_images(done: dict[str, dict[str, Any]]) -> tuple[str | None, list[tuple[str, float]]]:
    """Returns the first task that tells how well images went, and their ids, worst first."""
    tasks = dict.fromkeys(task for result in done.values() for task in result["quality"])
    for task in tasks:
        known = [
            (image_id, result["quality"][task])
            for image_id, result in done.items()
            if result["quality"].get(task) is not None
        ]
        if known:
            return task, sorted(known, key=lambda item: (item[1], item[0]))
    return None, []


def write_worst(
    scorer: NamedScorer | PromptScorer,
    benchmark: Benchmark,
    done: dict[str, dict[str, Any]],
    count: int,
    folder: pathlib.Path,
    progress: bool = True,
) -> None:
    """Writes `worst.png`; nothing if no image can be ranked.

    The images are predicted once more, with `progress` under a bar of their own.
    """
    by, ranked = rank_images(done)
    worst = ranked[:count]
    if by is None or not worst:
        return
    model = scorer.on_device(jax.local_devices()[0])
    pictures: list[np.ndarray] = []
    titles: list[str] = []
    title = f"worst images of {benchmark.name}"
    for image_id, quality in tqdm.tqdm(worst, title, unit="image", disable=not progress):
        drawn = draw_image(scorer, benchmark, model, image_id, by)
        # A sheet of many photographs in their own size would take gigabytes.
        pictures += [thumbnail(picture, _CELL) for picture in drawn]
        titles += [image_id, "truth", f"predicted: {by} {100 * quality:.1f} %"]
    sheet = contact_sheet(pictures, titles, 3 * min(_PER_ROW, len(worst)), _CELL)
    write_whole(folder / WORST_FILE, Image.fromarray(sheet).save)


def draw_image(
    scorer: NamedScorer | PromptScorer, benchmark: Benchmark, model: Any, image_id: str, by: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns an image, its truth and what is predicted, drawn.

    Args:
      scorer: Of the benchmark.
      benchmark: That the image is of.
      model: Of `scorer.on_device`.
      image_id: Of the benchmark.
      by: The task, or for prompts the mode.
    """
    if isinstance(scorer, NamedScorer):
        return _draw_named(scorer, benchmark, model, image_id, by)
    return _draw_prompted(scorer, model, image_id, by)


def _draw_named(
    scorer: NamedScorer, benchmark: Benchmark, model: Any, image_id: str, by: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truths, image = scorer.read(image_id)
    place = [task.name for task in scorer.tasks].index(by)
    pair = scorer.tasks[place].maps(truths[place], model, model.propose(image))
    assert benchmark.classes is not None
    names = [info.name for info in benchmark.classes.classes]
    colours = distinct_colours([f"{index} {name}" for index, name in enumerate(names)])
    drawn = []
    for classes in pair:
        captions = {int(k) + 1: names[int(k)] for k in np.unique(classes) if k >= 0}
        drawn.append(overlay(image, classes + 1, colours, captions))
    return image, drawn[0], drawn[1]


def _draw_prompted(
    scorer: PromptScorer, model: Any, image_id: str, by: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, truth = scorer.read(image_id)
    best = scorer.best(model, image_id, image, truth)[by]
    return image, draw_masks(image, truth.masks), draw_masks(image, best.masks, truth.masks)
