"""What a run scores: the parts of a benchmark, looked at before any model is loaded."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_benchmark, check_labels
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.benchmarks.sampling import sampled_unless_whole
from uniovseg_jax.eval.from_config import check_config, check_framing
from uniovseg_jax.eval.prompted import check_modes
from uniovseg_jax.files import write_text_whole
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.polygons import import_pycocotools
from uniovseg_jax.settings import read_settings
from uniovseg_jax.vocabulary import Vocabulary
from uniovseg_jax.weights.store import read_config

INSTANCE, PROMPTABLE = "instance", "promptable"
_CHECKED_FILE = "checked.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """A benchmark, or one of those that a suite consists of.

    Attributes:
      benchmark: With the images that are scored.
      tasks: That it is scored on; `promptable` alone, or some that need words.
      vocabulary: The words; None for prompts.
    """

    benchmark: Benchmark
    tasks: tuple[str, ...]
    vocabulary: Vocabulary | None

    @property
    def images_sha256(self) -> str:
        """Of the ids of its images in their order."""
        return digest(self.benchmark.images)


def open_parts(config: ml_collections.ConfigDict, data_dir: str) -> tuple[Part, ...]:
    """Opens what a configuration of configs/eval.py names.

    Raises:
      FileNotFoundError: If the dataset or the file of synonyms is not there.
      ValueError: If a setting is impossible, there is no such benchmark, split, task or mode, or
        the names are not those of its classes.
    """
    check_config(config)
    benchmarks = open_benchmarks(config.benchmark, data_dir, config.split)
    for benchmark in benchmarks:
        check_framing(config, benchmark)
    tasks = _choose_tasks(config, benchmarks)
    if PROMPTABLE in tasks:
        if config.save_predictions:
            raise ValueError("config.save_predictions is for tasks with words, not for prompts.")
        check_modes(config.prompts.modes)
        return tuple(Part(benchmark, tasks, None) for benchmark in benchmarks)
    return tuple(
        Part(benchmark, tasks, _words(benchmark, config.synonyms)) for benchmark in benchmarks
    )


def check_model(directory: str, needed: Sequence[str] = ("clip", "masks")) -> UniOVSegConfig:
    """Returns the configuration of a model; its weights are not read.

    Raises:
      FileNotFoundError: If it is not there.
      ValueError: If its configuration is damaged, or it lacks a part that is needed.
    """
    config, parts = read_config(directory)
    if lacking := [part for part in needed if part not in parts]:
        raise ValueError(
            f"{directory} is a model without the part {' and '.join(lacking)}; expected "
            f"{' and '.join(needed)}."
        )
    return config


def check_tools(parts: Sequence[Part]) -> None:
    """Raises an ImportError if what a task is scored by is not installed."""
    if INSTANCE not in parts[0].tasks:
        return
    try:
        import_pycocotools("cocoeval")
    except ImportError:
        others = ",".join(task for task in parts[0].tasks if task != INSTANCE)
        way_out = f", or leave the task out: --config.tasks={others}" if others else ""
        raise ImportError(
            "The task instance is scored by pycocotools, which is not installed: pip install "
            f"'uniovseg_jax[eval]'{way_out}."
        ) from None


def choose_images(
    parts: Sequence[Part],
    config: ml_collections.ConfigDict,
    data_dir: str,
    output: pathlib.Path,
    progress: bool,
) -> tuple[Part, ...]:
    """Returns the parts with the images that are scored.

    Sets that are larger than SAM's suite takes are sampled once for a folder of results, for which
    all of their labels are read: they are noted as checked then.

    Args:
      parts: Of `open_parts`.
      config: As there.
      data_dir: Folder of all datasets.
      output: Folder of the results, where the sample is kept.
      progress: Whether to show a bar.

    Raises:
      ValueError: If a label file is not as it has to be, or the sample there is another one.
    """
    benchmarks, drawn = tuple(part.benchmark for part in parts), False
    if PROMPTABLE in parts[0].tasks:
        sample = output / "sample.json"
        known = sample.is_file()
        benchmarks = sampled_unless_whole(
            config.benchmark, benchmarks, sample, config.prompts.seed, progress
        )
        drawn = sample.is_file() and not known
    chosen = tuple(
        dataclasses.replace(part, benchmark=benchmark.first(config.limit))
        for part, benchmark in zip(parts, benchmarks, strict=True)
    )
    if drawn:
        note_checked(output, chosen, data_dir)
    return chosen


def check_parts(parts: Sequence[Part], data_dir: str, output: pathlib.Path, progress: bool) -> None:
    """Looks at the files of all images.

    All labels are read once for a folder of results, each process its share; the first process
    keeps a note of it there, see `note_checked`. To be called by all processes.

    Args:
      parts: Of `choose_images`.
      data_dir: Folder of all datasets.
      output: Folder of the results.
      progress: Whether to show a bar.

    Raises:
      FileNotFoundError: If a file is missing.
      ValueError: If a part has no image, or a file is not as it has to be.
    """
    for part in parts:
        check_benchmark(part.benchmark, progress)
    if not _is_checked(output, parts, data_dir):
        for part in parts:
            own = list(part.benchmark.images)[jax.process_index() :: jax.process_count()]
            check_labels(part.benchmark, part.tasks, own, progress)


def note_checked(output: pathlib.Path, parts: Sequence[Part], data_dir: str) -> None:
    """Keeps in the folder of the results that all labels were read, by whichever process."""
    text = json.dumps(_what_is_checked(parts, data_dir), indent=1) + "\n"
    write_text_whole(output / _CHECKED_FILE, text)


def missing_tasks(part: Part, config: ml_collections.ConfigDict) -> list[str]:
    """Returns sentences on tasks that lack a file; none where somebody chose the tasks."""
    if config.tasks:
        return []
    return [
        f"Not scored on {' and '.join(tasks)}: there is no {path}, see "
        "docs/benchmarks_preparation.md."
        for path in dict.fromkeys(part.benchmark.missing.values())
        if (tasks := [task for task, own in part.benchmark.missing.items() if own == path])
    ]


def digest(names: Any) -> str:
    """Returns the SHA-256 of names in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _is_checked(output: pathlib.Path, parts: Sequence[Part], data_dir: str) -> bool:
    path = output / _CHECKED_FILE
    if not path.is_file():
        return False
    return read_settings(path) == _what_is_checked(parts, data_dir)


def _what_is_checked(parts: Sequence[Part], data_dir: str) -> list[dict[str, Any]]:
    return [
        {
            "data": str(pathlib.Path(data_dir).resolve()),
            "benchmark": part.benchmark.name,
            "tasks": list(part.tasks),
            "images": part.images_sha256,
        }
        for part in parts
    ]


def _choose_tasks(
    config: ml_collections.ConfigDict, benchmarks: Sequence[Benchmark]
) -> tuple[str, ...]:
    """Returns what to score: masks for prompts need another run than tasks with words."""
    first, *others = benchmarks
    offered = [task for task in first.tasks if all(task in other.tasks for other in others)]
    tasks = list(config.tasks) or [task for task in offered if task != PROMPTABLE] or offered
    unknown = [task for task in tasks if task not in offered]
    if unknown or not tasks:
        lacks = [first.missing[task] for task in unknown if task in first.missing]
        why = f", since there is no {lacks[0]} (docs/benchmarks_preparation.md)" if lacks else ""
        raise ValueError(
            f"{config.benchmark} has no task {', '.join(unknown)!r}{why}; expected some of "
            f"{', '.join(offered)}."
        )
    if PROMPTABLE in tasks and len(tasks) > 1:
        raise ValueError("The task promptable is a run of its own; leave the others out.")
    return tuple(dict.fromkeys(tasks))


def _words(benchmark: Benchmark, synonyms: str) -> Vocabulary:
    words = benchmark.words or benchmark.classes
    if words is None:
        raise ValueError(f"{benchmark.name} is scored by class, but has no list of classes.")
    return words.vocabulary(synonyms or None)
