"""Pictures of a finished run: images, their truth and predictions, as in the paper's figures.

A run keeps what each image gave, so that the worst, the best or ordinary images can be asked for;
these are predicted once more.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.coco_files import at, of_size, read_image_id, read_json
from uniovseg_jax.eval.evaluate import EvaluatedModel, make_scorer
from uniovseg_jax.eval.from_config import make_framing, restored_config
from uniovseg_jax.eval.image_log import read_image_log
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.parts import Part, open_parts
from uniovseg_jax.eval.promptable import BestMasks, TrueMasks
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.eval.worst import draw_image, rank_images
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.packed_masks import PackedMasks, packed_iou
from uniovseg_jax.visualize import draw_masks, thumbnail

CHOICES = ("worst", "median", "best", "random")
# Longest side of a picture in pixels.
_CELL = 640


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Images of one run.

    Attributes:
      benchmark: That they are of.
      by: The task or the mode that is drawn.
      note: How they were chosen.
      images: By image id its pictures by their titles: the image, truth, prediction, and for
        prompts those of other models.
    """

    benchmark: str
    by: str
    note: str
    images: Mapping[str, Mapping[str, UInt8[np.ndarray, "_h _w 3"]]]


class GalleryMaker:
    """Draws images of runs; data and models that several runs share are opened once."""

    def __init__(
        self,
        data_dir: str,
        model: str = "",
        count: int = 6,
        choose: str = "random",
        others: Mapping[str, pathlib.Path] | None = None,
        seed: int = 0,
    ):
        """Takes what is alike for all runs.

        Args:
          data_dir: Folder of all datasets.
          model: Model directory, if it is not where it was.
          count: Number of images of a run.
          choose: One of `CHOICES`; `median` takes those in the middle of the ranking.
          others: For prompts, COCO results of other models by name, of the benchmark's image ids.
            The mask that fits best is shown for every true one, whatever prompt it answers.
          seed: Of `random`.
        """
        self._data_dir, self._model = data_dir, model
        self._count, self._choose, self._seed = count, choose, seed
        self._others = others or {}
        self._load = functools.lru_cache(1)(EvaluatedModel)
        self._open = functools.lru_cache(1)(self._open_parts)

    def make(self, document: Mapping[str, Any], folder: pathlib.Path) -> Gallery | None:
        """Draws images of a run; none where no image has a mask to be asked for.

        Args:
          document: Of its `results.json`.
          folder: That this lies in, with what each image gave.

        Raises:
          FileNotFoundError: If the model, the data or a file of results is not there.
          ValueError: If the model is another one, or a file does not fit.
        """
        config = restored_config(document["settings"]["config"])
        named = self._open(config.to_json(sort_keys=True))
        if document["benchmark"] not in named:
            raise ValueError(
                f"{folder} is of {document['benchmark']}, which is not in {self._data_dir}."
            )
        part = named[document["benchmark"]]
        loaded = self._load(self._model or document["model"]["directory"])
        if loaded.about["sha256"] != document["model"]["sha256"]:
            raise ValueError(
                f"{folder} was made with another model than {loaded.about['directory']}."
            )
        framing = make_framing(config, part.benchmark, loaded.pretrained.config)
        scorer = make_scorer(part, config, loaded, framing)
        done = read_image_log(folder)
        by, chosen = choose_images(done, self._count, self._choose, self._seed)
        if by is None and isinstance(scorer, PromptScorer):
            return None
        note = f"{len(chosen)} of {len(done)} images: {self._choose if by else 'random'}."
        images = self._draw(scorer, part.benchmark, by or part.tasks[0], chosen)
        return Gallery(part.benchmark.name, by or part.tasks[0], note, images)

    def _open_parts(self, settings: str) -> dict[str, Part]:
        config = ml_collections.ConfigDict(json.loads(settings))
        return {part.benchmark.name: part for part in open_parts(config, self._data_dir)}

    def _draw(
        self,
        scorer: NamedScorer | PromptScorer,
        benchmark: Benchmark,
        by: str,
        chosen: Sequence[tuple[str, float | None]],
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns pictures by image and title."""
        model = scorer.on_device(jax.local_devices()[0])
        offered: dict[str, dict[str, Any]] = {}
        if isinstance(scorer, PromptScorer):
            offered = {
                name: read_masks(path, benchmark.images) for name, path in self._others.items()
            }
        images = {}
        for image_id, quality in chosen:
            drawn = draw_image(scorer, benchmark, model, image_id, by)
            score = "" if quality is None else f": {100 * quality:.1f} %"
            pictures = dict(zip(("image", "truth", f"predicted{score}"), drawn, strict=True))
            for name, masks in offered.items():
                assert isinstance(scorer, PromptScorer)
                image, truth = scorer.read(image_id)
                best = best_masks(truth, masks.get(image_id, []))
                title = f"{name}: {100 * float(best.iou.mean()):.1f} %"
                pictures[title] = draw_masks(image, best.masks, truth.masks)
            images[image_id] = {
                title: thumbnail(picture, _CELL) for title, picture in pictures.items()
            }
        return images


def choose_images(
    done: dict[str, dict[str, Any]], count: int, choose: str, seed: int = 0
) -> tuple[str | None, list[tuple[str, float | None]]]:
    """Returns the task or mode that ranks images, and ids with how well they went, 0..1.

    Where nothing ranks them, any images are taken.

    Raises:
      ValueError: If the choice is unknown or there is no image.
    """
    if choose not in CHOICES:
        raise ValueError(f"Unknown choice {choose!r}; expected one of {', '.join(CHOICES)}.")
    if not done:
        raise ValueError("The run has no images to choose from.")
    by, ranked = rank_images(done)
    every: list[tuple[str, float | None]] = list(ranked) or [(name, None) for name in sorted(done)]
    count = min(count, len(every))
    if choose == "random" or by is None:
        # Whatever the order in which images were finished.
        every.sort(key=lambda item: item[0])
        picked = np.random.default_rng(seed).choice(len(every), count, replace=False)
        return by, [every[place] for place in sorted(picked.tolist())]
    start = {"worst": 0, "median": (len(every) - count) // 2, "best": len(every) - count}[choose]
    return by, every[start : start + count]


def read_masks(
    path: pathlib.Path, images: Mapping[str, Any]
) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Reads COCO results by image id, each entry with its place in words.

    Raises:
      FileNotFoundError: If the file is not there.
      ValueError: If it is no list of results, or none is of an image of the benchmark.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise ValueError(f"{path}: expected a list of results, one object per mask.")
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for place, entry in enumerate(document):
        where = f"{path}: [{place}]"
        found.setdefault(str(read_image_id(entry, where)), []).append((where, entry))
    if not found.keys() & images.keys():
        raise ValueError(
            f"{path} has no result for an image of the benchmark, such as {next(iter(images))}."
        )
    return found


def best_masks(truth: TrueMasks, entries: Sequence[tuple[str, dict[str, Any]]]) -> BestMasks:
    """Returns for every true mask the result that fits best.

    Raises:
      ValueError: If a result is malformed or of another size than the image.
    """
    best = BestMasks(truth)
    if entries and len(truth):
        hw = truth.masks.hw
        rles = [at(where, of_size, entry.get("segmentation"), hw) for where, entry in entries]
        masks = PackedMasks.from_masks([rle_decode(rle) for rle in rles], hw)
        iou = packed_iou(truth.masks, masks)
        best.offer(iou.max(axis=1), masks.words[iou.argmax(axis=1)])
    return best
