"""Scores an image with words: proposals once, then every task of the benchmark."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.eval.prediction_files import PredictionFiles
from uniovseg_jax.eval.stopwatch import Stopwatch
from uniovseg_jax.eval.tasks import NAMED_TASKS, NamedTask
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter


class NamedScorer:
    """Scores semantic, panoptic and instance segmentation.

    Args:
      benchmark: With classes.
      tasks: Some of `NAMED_TASKS` that the benchmark has.
      segmenter: With the vocabulary of the benchmark.
      files: Where predictions are written; None if they are not kept.

    Raises:
      ValueError: If the benchmark has no classes or lacks a task, or the vocabulary has another
        number of classes.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        tasks: Sequence[str],
        segmenter: OpenVocabularySegmenter,
        files: PredictionFiles | None = None,
    ):
        if benchmark.classes is None:
            raise ValueError(f"{benchmark.name} has no classes to be scored with words.")
        for task in tasks:
            if task not in NAMED_TASKS or task not in benchmark.tasks:
                raise ValueError(
                    f"{benchmark.name} has no task {task!r}; expected some of "
                    f"{', '.join(name for name in benchmark.tasks if name in NAMED_TASKS)}."
                )
        if not tasks:
            raise ValueError(f"No task of {benchmark.name} is asked for; expected at least one.")
        self.tasks: list[NamedTask] = [
            NAMED_TASKS[task](benchmark, benchmark.classes, files) for task in tasks
        ]
        words, found = benchmark.words or benchmark.classes, segmenter.vocabulary.num_foreground
        if found != len(words):
            raise ValueError(
                f"The vocabulary has {found} classes, {words.name} of {benchmark.name} has "
                f"{len(words)}."
            )
        self._benchmark, self._segmenter = benchmark, segmenter

    def on_device(self, device: Any) -> OpenVocabularySegmenter:
        """Returns the segmenter on a device."""
        return self._segmenter.on_device(device)

    def score(self, model: OpenVocabularySegmenter, image_id: str) -> dict[str, Any]:
        """Returns counters and how well it went by task, and seconds by what they went to."""
        watch = Stopwatch()
        with watch("load"):
            truths, image = self.read(image_id)
        with watch("network"):
            proposals = model.propose(image)
        counters, quality = {}, {}
        for task, truth in zip(self.tasks, truths, strict=True):
            counters[task.name], value = task.score(image_id, truth, model, proposals, watch)
            quality[task.name] = value if np.isfinite(value) else None
        return {"counters": counters, "quality": quality, "seconds": watch.seconds}

    def read(self, image_id: str) -> tuple[list[Any], UInt8[np.ndarray, "h w 3"]]:
        """Returns the truth for every task, and the image."""
        found = [task.truth(image_id) for task in self.tasks]
        sizes = [hw for _, hw in found if hw is not None]
        image = self._benchmark.image(image_id, sizes[0] if sizes else None)
        return [truth for truth, _ in found], image

    def total(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the scores of all images by task."""
        return {
            task.name: task.total([result["counters"][task.name] for result in results])
            for task in self.tasks
        }

    def notes(self, results: Sequence[dict[str, Any]]) -> list[str]:
        """Returns what is to be said of the truth, in sentences."""
        return [
            note
            for task in self.tasks
            for note in task.notes([result["counters"][task.name] for result in results])
        ]

    def headline(self, results: Sequence[dict[str, Any]]) -> str:
        """Returns the main score of the first task."""
        task = self.tasks[0]
        found = task.total([result["counters"][task.name] for result in results])
        return f"{task.headline} {100 * found['all'][task.headline]:.2f}"
