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
import tqdm
from jaxtyping import UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.evaluate import EvaluatedModel, make_scorer
from uniovseg_jax.eval.from_config import make_framing, restored_config
from uniovseg_jax.eval.image_log import read_image_log
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.parts import Part, open_parts
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.eval.reports.found_results import is_matching
from uniovseg_jax.eval.reports.other_masks import OtherFiles, best_masks, read_masks
from uniovseg_jax.eval.run_settings import GetConfig, known_settings
from uniovseg_jax.eval.worst import draw_image, rank_images
from uniovseg_jax.visualize import draw_masks, thumbnail

CHOICES = ("worst", "median", "best", "random")
# Longest side of a picture in pixels.
_CELL = 640


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Images of one run.

    Attributes:
      document: The results that they belong to.
      by: The task or the mode that is drawn.
      note: How they were chosen.
      images: By image id its pictures by their titles: the image, truth, prediction, and for
        prompts those of other models.
    """

    document: Mapping[str, Any]
    by: str
    note: str
    images: Mapping[str, Mapping[str, UInt8[np.ndarray, "_h _w 3"]]]


class GalleryMaker:
    """Draws images of runs; data and models that several runs share are opened once."""

    def __init__(
        self,
        get_config: GetConfig,
        data_dir: str = "",
        model: str = "",
        count: int = 6,
        choose: str = "random",
        others: OtherFiles | None = None,
        seed: int = 0,
        progress: bool = True,
    ):
        """Takes what is alike for all runs.

        Args:
          get_config: Of configs/eval.py.
          data_dir: Folder of datasets, for runs whose data are not where they were; of those that
            are not in it the folder that the run noted is taken.
          model: Model directory, if it is not where it was.
          count: Number of images of a run.
          choose: One of `CHOICES`; `median` takes those in the middle of the ranking.
          others: For prompts, COCO results of other models, of the benchmark's image ids. The mask
            that fits best is shown for every true one, whatever prompt it answers.
          seed: Of `random`.
          progress: Whether to show a bar for every run.
        """
        self._get_config, self._data_dir, self._model = get_config, data_dir, model
        self._count, self._choose, self._seed = count, choose, seed
        self._others, self._progress = others or {}, progress
        self._load = functools.lru_cache(1)(EvaluatedModel)
        self._open = functools.lru_cache(1)(_open_parts)

    def make_all(
        self, found: Mapping[pathlib.Path, Mapping[str, Any]]
    ) -> tuple[list[Gallery], list[str]]:
        """Draws images of all runs that have some.

        Means of suites and names of true masks have none.

        Args:
          found: Results by the folder that they lie in, with what each image gave.

        Returns:
          The galleries, and a sentence for every run that cannot be drawn.
        """
        galleries, complaints = [], []
        for folder, document in found.items():
            if is_matching(document) or "parts" in document:
                continue
            try:
                gallery = self.make(document, folder)
            except ValueError as error:
                complaints.append(f"No gallery of {error}")
            else:
                galleries += [] if gallery is None else [gallery]
        return galleries, complaints

    def make(self, document: Mapping[str, Any], folder: pathlib.Path) -> Gallery | None:
        """Draws images of a run; none where no image has a mask to be asked for.

        Args:
          document: Of its `results.json`.
          folder: That this lies in, with what each image gave.

        Raises:
          ValueError: If the model, the data or a file is not there, or does not fit; it names the
            folder first.
        """
        try:
            return self._make(document, folder)
        except (ValueError, OSError, ImportError) as error:
            raise ValueError(f"{folder}: {error}") from error

    def _make(self, document: Mapping[str, Any], folder: pathlib.Path) -> Gallery | None:
        done, settings = read_image_log(folder), document["settings"]["config"]
        by, chosen = choose_images(done, self._count, self._choose, self._seed)
        if by is None and "promptable" in document["scores"]:
            return None
        config = restored_config(settings, known_settings(settings, self._get_config))
        title = f"gallery of {document['benchmark']}"
        with tqdm.tqdm(
            total=len(chosen), desc=title, unit="image", disable=not self._progress
        ) as bar:
            part = self._open_part(config, document)
            for image_id, _ in chosen:
                if image_id not in part.benchmark.images:
                    raise ValueError(f"the data have no image {image_id!r} any more.")
            loaded = self._load(self._model or document["model"]["directory"])
            if loaded.about["sha256"] != document["model"]["sha256"]:
                raise ValueError(
                    f"it was made with another model than {loaded.about['directory']}."
                )
            framing = make_framing(config, part.benchmark, loaded.pretrained.config)
            scorer = make_scorer(part, config, loaded, framing)
            by = by or part.tasks[0]
            images = self._draw(scorer, part.benchmark, by, chosen, bar)
        ranked = any(quality is not None for _, quality in chosen)
        note = f"{len(chosen)} of {len(done)} images: {self._choose if ranked else 'random'}."
        return Gallery(document, by, note, images)

    def _open_part(self, config: ml_collections.ConfigDict, document: Mapping[str, Any]) -> Part:
        """Opens the benchmark where it is: one folder of datasets does not have all of them."""
        folders = dict.fromkeys(filter(None, (self._data_dir, document.get("data_dir"))))
        if not folders:
            raise ValueError("its results do not say where the data are: give their folder.")
        missing = []
        for folder in folders:
            try:
                named = self._open(config.to_json(sort_keys=True), folder)
            except FileNotFoundError as error:
                missing.append(error)
                continue
            if document["benchmark"] not in named:
                raise ValueError(f"there is no {document['benchmark']} in {folder}.")
            return named[document["benchmark"]]
        raise missing[0]

    def _draw(
        self,
        scorer: NamedScorer | PromptScorer,
        benchmark: Benchmark,
        by: str,
        chosen: Sequence[tuple[str, float | None]],
        bar: tqdm.tqdm,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns pictures by image and title."""
        model = scorer.on_device(jax.local_devices()[0])
        offered: dict[str, dict[str, Any]] = {}
        if isinstance(scorer, PromptScorer):
            files = self._others.get(benchmark.name, {})
            offered = {name: read_masks(path, benchmark.images) for name, path in files.items()}
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
            bar.update()
        return images


def _open_parts(settings: str, data_dir: str) -> dict[str, Part]:
    config = ml_collections.ConfigDict(json.loads(settings))
    return {part.benchmark.name: part for part in open_parts(config, data_dir)}


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
