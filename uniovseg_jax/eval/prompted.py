"""Asks a model for the masks that the modes of `promptable.py` score."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.metrics.promptable import (
    MODES,
    BestMasks,
    GridScorer,
    OwnPromptScorer,
    PromptableScores,
    TrueMasks,
)
from uniovseg_jax.eval.stopwatch import Stopwatch
from uniovseg_jax.image_io import decode_image
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.proposals import point_grid


def read_record(
    record: dict[str, Any], min_area: float
) -> tuple[UInt8[np.ndarray, "h w 3"], TrueMasks]:
    """Returns the image of a mask record and its true masks of at least a share of the image.

    Args:
      record: `id`, `image` (a file's bytes, or uint8 RGB) and `masks` (COCO run lengths).
      min_area: Share of the image, 0..1.

    Raises:
      ValueError: If the image cannot be read or a mask does not fit it; it names the record.
    """
    image = decode_image(record["image"], f"The image of record {record['id']}")
    try:
        hw = (image.shape[0], image.shape[1])
        return image, TrueMasks.from_rles(record["masks"], hw, min_area)
    except ValueError as error:
        raise ValueError(f"Record {record['id']}: {error}") from error


def image_grid(points_per_side: int, hw: tuple[int, int]) -> Float[np.ndarray, "p 2"]:
    """Returns the grid's points (x, y) in pixels of an image: centres of equal cells, by rows."""
    height, width = hw
    # A network input as long as the image makes its pixels those of the image.
    return point_grid(points_per_side, (width, height), max(hw))


def find_best_masks(
    predictor: Predictor,
    image: UInt8[np.ndarray, "h w 3"],
    truth: TrueMasks,
    modes: Sequence[str],
    points_per_side: int,
    random_seed: tuple[int, str],
    watch: Stopwatch | None = None,
) -> dict[str, BestMasks]:
    """Predicts every mask that the modes need and keeps the best ones.

    The image is encoded once. No mask is filtered by quality or suppressed.

    Args:
      predictor: Of the model.
      image: RGB.
      truth: At least one true mask.
      modes: Some of `promptable.MODES`.
      points_per_side: Side of the point grid.
      random_seed: A number and the image's id, from which the points of `random` are drawn.
      watch: Takes the time of the network, of bringing masks to the image's size, and of the IoU.

    Returns:
      By mode the best masks for every true one; for single points also `<mode>_ranked`.
    """
    watch = watch or Stopwatch()
    with watch("network"):
        predictor.set_image(image)
    best: dict[str, BestMasks] = {}
    if "grid_any" in modes or "grid_inside" in modes:
        points = image_grid(points_per_side, truth.masks.hw)
        scorer = GridScorer(truth, points)
        _add_all(scorer, predictor.predict_few(points), watch)
        best |= {mode: found for mode, found in scorer.best.items() if mode in modes}
    own_prompts = {
        "center": lambda: {"point_coords": truth.centers_xy},
        "random": lambda: {"point_coords": truth.random_points(*random_seed)},
        "box": lambda: {"box": truth.masks.boxes_xyxy},
    }
    for mode, make_prompts in own_prompts.items():
        if mode in modes:
            own = OwnPromptScorer(truth, mode)
            _add_all(own, predictor.predict_few(**make_prompts()), watch)
            best |= own.best
    return best


def _add_all(
    scorer: GridScorer | OwnPromptScorer,
    predicted: Iterator[tuple[FullSizeLogits, Float[np.ndarray, "q k"]]],
    watch: Stopwatch,
) -> None:
    while True:
        with watch("network"):
            found = next(predicted, None)
        if found is None:
            return
        with watch("merge"):
            masks = found[0].packed()
        with watch("metric"):
            scorer.add(masks, found[1])


def check_modes(modes: Sequence[str]) -> None:
    """Raises a ValueError if there is no mode, or an unknown one."""
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        named = f"unknown {', '.join(unknown)}" if unknown else "there is none"
        raise ValueError(f"Modes: {named}; expected some of {', '.join(MODES)}.")


class PromptScorer:
    """Scores the masks that points and boxes give on a benchmark.

    Args:
      benchmark: With masks.
      predictor: Of the model.
      modes: Some of `promptable.MODES`.
      points_per_side: Side of the point grid.
      seed: Of the points of the mode `random`.

    Raises:
      ValueError: If the benchmark has no masks or a mode is unknown.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        predictor: Predictor,
        modes: Sequence[str],
        points_per_side: int,
        seed: int,
    ):
        if benchmark.read_masks is None:
            raise ValueError(f"{benchmark.name} has no masks for prompts.")
        check_modes(modes)
        self._benchmark, self._predictor = benchmark, predictor
        self._modes, self._points_per_side, self._seed = tuple(modes), points_per_side, seed

    def on_device(self, device: Any) -> Predictor:
        """Returns the predictor on a device."""
        return self._predictor.on_device(device)

    def score(self, model: Predictor, image_id: str) -> dict[str, Any]:
        """Returns the IoU of every true mask by mode, how well it went, and seconds."""
        watch = Stopwatch()
        with watch("load"):
            image, truth = self.read(image_id)
        best: dict[str, BestMasks] = {}
        if len(truth):
            best = self.best(model, image_id, image, truth, watch)
        ious = {mode: found.iou.tolist() for mode, found in best.items()}
        quality = {mode: float(np.mean(values)) for mode, values in ious.items()}
        return {"counters": ious, "quality": quality, "seconds": watch.seconds}

    def best(
        self,
        model: Predictor,
        image_id: str,
        image: UInt8[np.ndarray, "h w 3"],
        truth: TrueMasks,
        watch: Stopwatch | None = None,
    ) -> dict[str, BestMasks]:
        """Returns the best mask for every true one by mode."""
        seed, side = (self._seed, image_id), self._points_per_side
        return find_best_masks(model, image, truth, self._modes, side, seed, watch)

    def read(self, image_id: str) -> tuple[UInt8[np.ndarray, "h w 3"], TrueMasks]:
        """Returns an image and its masks; crowds and empty ones are dropped."""
        assert self._benchmark.read_masks is not None
        rles = self._benchmark.read_masks(image_id)
        hw = (rles[0]["size"][0], rles[0]["size"][1]) if rles else None
        image = self._benchmark.image(image_id, hw)
        return image, TrueMasks.from_rles(rles, (image.shape[0], image.shape[1]))

    def total(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the scores of all images by mode, see `PromptableScores.compute`."""
        scores = PromptableScores()
        for result in results:
            scores.add({mode: np.array(iou) for mode, iou in result["counters"].items()})
        return {"promptable": scores.compute()}

    def notes(self, results: Sequence[dict[str, Any]]) -> list[str]:
        """Returns nothing: masks state nothing that could be wrong."""
        del results
        return []

    def headline(self, results: Sequence[dict[str, Any]]) -> str:
        """Returns the mean IoU of the first mode."""
        found = self.total(results)["promptable"].get(self._modes[0])
        return f"{self._modes[0]} {100 * found['iou']:.2f}" if found else ""
