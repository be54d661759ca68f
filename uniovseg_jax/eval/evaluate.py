"""Scores a model on a benchmark as a configuration of configs/eval.py says."""

import contextlib
import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_benchmark
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.benchmarks.sampling import sampled
from uniovseg_jax.eval.from_config import (
    deciding_settings,
    framing_settings,
    make_framing,
    make_segmenter_config,
)
from uniovseg_jax.eval.image_log import ImageLog, read_image_log
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.eval.result_files import write_results
from uniovseg_jax.eval.run import ordered, score_images
from uniovseg_jax.eval.worst import write_worst
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter
from uniovseg_jax.locks import held_alone
from uniovseg_jax.versions import versions
from uniovseg_jax.vocabulary import Vocabulary
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256

_PROMPTABLE = "promptable"


def evaluate(
    config: ml_collections.ConfigDict,
    model: str,
    data_dir: str,
    output: pathlib.Path,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Scores a model; what was scored in the same folder before is not scored again.

    Args:
      config: Of configs/eval.py.
      model: Model directory.
      data_dir: Folder of all datasets.
      output: Folder for the results, on a disk that all processes share; suites of several parts
        get a folder in it for each.
      progress: Whether to show bars.

    Returns:
      The results of every part, as `results.json` holds them; none on other processes than the
      first.

    Raises:
      FileNotFoundError: If the model or the data are not there.
      ValueError: If anything does not fit together, in one sentence.
    """
    parts = open_benchmarks(config.benchmark, data_dir, config.split)
    tasks = _choose_tasks(config, parts)
    if _PROMPTABLE in tasks:
        # Sets that are larger than SAM's suite takes are sampled once, for all models alike.
        parts = sampled(parts, output / "sample.json", config.prompts.seed)
    if config.limit:
        parts = tuple(_first(part, config.limit) for part in parts)
    for part in parts:
        check_benchmark(part)
    pretrained = load_pretrained(model)
    about = {"directory": str(model), "sha256": params_sha256(pretrained.variables)}
    folders = [output / part.name if len(parts) > 1 else output for part in parts]
    runs = [
        _Run(part, tasks, config, pretrained, about, folder)
        for part, folder in zip(parts, folders, strict=True)
    ]
    return [result for run in runs if (result := run(progress)) is not None]


class _Run:
    """One part, all of its tasks."""

    def __init__(
        self,
        benchmark: Benchmark,
        tasks: Sequence[str],
        config: ml_collections.ConfigDict,
        pretrained: Pretrained,
        about: dict[str, str],
        output: pathlib.Path,
    ):
        self._benchmark, self._config, self._about, self._output = benchmark, config, about, output
        self._framing = make_framing(config, benchmark, pretrained.config)
        self._vocabulary: Vocabulary | None = None
        if _PROMPTABLE in tasks:
            prompts = config.prompts
            self._scorer: NamedScorer | PromptScorer = PromptScorer(
                benchmark,
                Predictor(pretrained, self._framing),
                tuple(prompts.modes),
                prompts.points_per_side,
                prompts.seed,
            )
        else:
            words = benchmark.words or benchmark.classes
            assert words is not None
            self._vocabulary = words.vocabulary(config.synonyms or None)
            segmenter = OpenVocabularySegmenter(
                pretrained,
                make_segmenter_config(config, self._framing),
                config.text_cache or None,
            )
            segmenter.use_vocabulary(self._vocabulary)
            self._scorer = NamedScorer(benchmark, tasks, segmenter)

    def __call__(self, progress: bool) -> dict[str, Any] | None:
        """Scores all images, and on the first process writes what came out."""
        ids = list(self._benchmark.images)
        settings = self._settings()
        process = jax.process_index()
        with contextlib.ExitStack() as stack:
            if process == 0:
                stack.enter_context(held_alone(self._output, "evaluation"))
            multihost_utils.sync_global_devices("evaluation begins")
            with ImageLog(self._output, settings, process) as log:
                threads = self._config.threads_per_device
                score_images(self._scorer, ids, log, threads, progress and process == 0)
            multihost_utils.sync_global_devices("evaluation ends")
            if process != 0:
                return None
            done = read_image_log(self._output)
            document = self._document(ordered(done, ids), settings)
            write_results(document, self._benchmark.classes, self._output)
            write_worst(self._scorer, self._benchmark, done, self._config.worst, self._output)
        return document

    def _settings(self) -> dict[str, Any]:
        """Returns all that decides the result of an image."""
        classes = self._benchmark.classes
        names = self._vocabulary.names if self._vocabulary else ()
        return {
            "benchmark": self._benchmark.name,
            "config": deciding_settings(self._config),
            "input": framing_settings(self._framing),
            "model": self._about["sha256"],
            "images": _digest(list(self._benchmark.images)),
            "classes": {"name": classes.name, "sha256": classes.sha256} if classes else None,
            "names": {"count": len(names), "sha256": _digest(list(names))},
        }

    def _document(self, results: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
        parts = [result["seconds"] for result in results]
        return {
            "benchmark": self._benchmark.name,
            "date": datetime.date.today().isoformat(),
            "num_images": len(results),
            "limited": bool(self._config.limit),
            "model": self._about,
            "settings": settings,
            "unverified": list(self._benchmark.unverified),
            "scores": self._scorer.total(results),
            "seconds_per_image": {
                name: float(np.median([seconds.get(name, 0.0) for seconds in parts]))
                for name in dict.fromkeys(name for seconds in parts for name in seconds)
            },
            "versions": versions(),
        }


def _choose_tasks(config: ml_collections.ConfigDict, parts: Sequence[Benchmark]) -> list[str]:
    """Returns what to score: masks for prompts need another run than tasks with words."""
    offered = [task for task in parts[0].tasks if all(task in part.tasks for part in parts)]
    tasks = list(config.tasks) or [task for task in offered if task != _PROMPTABLE] or offered
    unknown = [task for task in tasks if task not in offered]
    if unknown:
        raise ValueError(
            f"{config.benchmark} has no task {unknown[0]!r}; expected some of {', '.join(offered)}."
        )
    if _PROMPTABLE in tasks and len(tasks) > 1:
        raise ValueError("The task promptable is a run of its own; leave the others out.")
    return tasks


def _first(benchmark: Benchmark, limit: int) -> Benchmark:
    return dataclasses.replace(benchmark, images=dict(list(benchmark.images.items())[:limit]))


def _digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
