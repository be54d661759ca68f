"""Matching accuracy on a benchmark: true masks of a dataset, named by a model's CLIP alone."""

import dataclasses
import datetime
import itertools
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_benchmark, check_labels
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.paper import names_notes, paper_matching_accuracy
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.eval.image_log import ImageLog, read_image_log
from uniovseg_jax.eval.matching_accuracy import RegionNamer, check_naming
from uniovseg_jax.eval.matching_table import make_matching_table, sizes_text
from uniovseg_jax.eval.parts import digest
from uniovseg_jax.eval.result_files import RESULTS_FILE, TABLE_FILE
from uniovseg_jax.eval.run import ordered, score_images
from uniovseg_jax.eval.true_regions import TRUTHS, region_reader
from uniovseg_jax.files import write_whole
from uniovseg_jax.locks import held_alone
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.prompt_templates import check_templates
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.versions import versions
from uniovseg_jax.vocabulary import Vocabulary
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256

# What `results.json` says it is.
KIND = "matching_accuracy"
PAPER_SIZES = ((768,), (896,), (1024,), (768, 896), (896, 1024), (768, 896, 1024))
POOLINGS = ("binary", "binary_or_soft", "area")
_GROUPS = ("all", "things", "stuff")
_OPEN = (
    "The paper does not say whether its masks are things only, how sizes are averaged, and what of "
    "an image a size is; here it is the long side."
)


@dataclasses.dataclass(frozen=True)
class MatchingSettings:
    """What decides the result.

    Attributes:
      benchmark: Its name.
      split: Empty for the usual one.
      limit: Only the first images; 0 for all.
      size_sets: Input sides that go together, one set per row.
      truth: One of `TRUTHS`; empty for the first that the benchmark has.
      average: See `RegionNamer`.
      pooling: One of `POOLINGS`; empty for the model's own.
      synonyms: File with names of the classes; empty for the official names.
      templates: Prompts, see `prompt_templates.TEMPLATES`.
    """

    benchmark: str
    split: str = ""
    limit: int = 0
    size_sets: tuple[tuple[int, ...], ...] = PAPER_SIZES
    truth: str = ""
    average: str = "cosines"
    pooling: str = ""
    synonyms: str = ""
    templates: str = "vild14"


def measure_matching(
    settings: MatchingSettings,
    model: str,
    data_dir: str,
    output: pathlib.Path,
    text_cache: str = "",
    threads_per_device: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Names the true masks of a benchmark; images that the same folder has are not done again.

    Args:
      settings: What decides the result.
      model: Model directory with the part `clip`.
      data_dir: Folder of all datasets.
      output: Folder for `results.json` and `results.md`.
      text_cache: Folder in which vectors of names are kept; empty for none.
      threads_per_device: At least 1.
      progress: Whether to show a bar with the running accuracy.

    Returns:
      What `results.json` holds: `rows` with `sizes`, `top1` and `class_mean` (percent, by group of
      classes), `seconds` per image, and what the paper reports.

    Raises:
      FileNotFoundError: If the model or the data are not there.
      ValueError: If anything does not fit together, in one sentence.
    """
    benchmark, vocabulary = _open(settings, data_dir)
    settings = dataclasses.replace(settings, truth=settings.truth or _truths(benchmark)[0])
    check_benchmark(benchmark)
    check_labels(benchmark, (settings.truth,), list(benchmark.images), progress)
    pretrained = load_pretrained(model)
    if settings.pooling:
        config = dataclasses.replace(pretrained.config, pooling=settings.pooling)
        pretrained = dataclasses.replace(pretrained, config=config, model=UniOVSeg(config))
    settings = dataclasses.replace(settings, pooling=pretrained.config.pooling)
    scorer = MatchingScorer(benchmark, vocabulary, settings, pretrained, text_cache)
    made_with = {
        **dataclasses.asdict(settings),
        "model": params_sha256(pretrained.variables),
        "images": digest(benchmark.images),
        "names": digest(scorer.names),
        "preparation": benchmark.preparation,
    }
    with held_alone(output, "evaluation"):
        with ImageLog(output, made_with) as log:
            ids = list(benchmark.images)
            score_images(scorer, ids, log, threads_per_device, progress, benchmark.name)
        results = ordered(read_image_log(output), list(benchmark.images))
        document = {
            "kind": KIND,
            "benchmark": benchmark.name,
            "date": datetime.date.today().isoformat(),
            "num_images": len(results),
            "limited": bool(settings.limit),
            "model": {"directory": str(model), "sha256": made_with["model"]},
            "device": jax.devices()[0].device_kind,
            "settings": made_with,
            "unverified": [
                *benchmark.unverified,
                *names_notes(benchmark.name, settings.synonyms),
                _OPEN,
            ],
            **scorer.total(results),
            "versions": versions(),
        }
        _add_seconds_and_paper(document, scorer.namer.seconds())
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        write_whole(output / RESULTS_FILE, lambda path: path.write_text(text, encoding="utf-8"))
        table = make_matching_table(document)
        write_whole(output / TABLE_FILE, lambda path: path.write_text(table, encoding="utf-8"))
    return document


class MatchingScorer:
    """Names the true masks of an image at all sizes.

    Args:
      benchmark: With classes and the truth that the settings name.
      vocabulary: Names of its words or classes.
      settings: What to do.
      pretrained: A model with the part `clip`.
      text_cache: Folder in which vectors of names are kept; empty for none.

    Raises:
      ValueError: If a setting is impossible.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        vocabulary: Vocabulary,
        settings: MatchingSettings,
        pretrained: Pretrained,
        text_cache: str = "",
    ):
        assert benchmark.classes is not None
        encoder = TextEncoder(pretrained, settings.templates, text_cache or None)
        self.names = vocabulary.names
        self.namer = RegionNamer(
            pretrained,
            encoder.embed(vocabulary.names),
            vocabulary.name_to_class,
            itertools.chain.from_iterable(settings.size_sets),
            settings.average,
        )
        self._classes: ClassList = benchmark.classes
        self._folded = benchmark.folded
        self._sets = settings.size_sets
        self._read = region_reader(benchmark, settings.truth)

    def on_device(self, device: Any) -> RegionNamer:
        """Returns the namer on a device."""
        return self.namer.on_device(device)

    def score(self, model: RegionNamer, image_id: str) -> dict[str, Any]:
        """Returns the class of every true mask, and what it was taken for by set of sizes."""
        image, masks, labels = self._read(image_id)
        found = model(image, masks, self._sets) if len(labels) else [labels] * len(self._sets)
        if self._folded is not None:
            found = [self._folded[classes] for classes in found]
        return {"labels": labels.tolist(), "predicted": [classes.tolist() for classes in found]}

    def total(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns the numbers of `masks` by group of classes, and accuracies per set as `rows`."""
        labels = _joined(result["labels"] for result in results)
        groups = self._groups(labels)
        rows = []
        for place, sizes in enumerate(self._sets):
            right = _joined(result["predicted"][place] for result in results) == labels
            rows.append(
                {
                    "sizes": list(sizes),
                    "top1": {name: _percent(right[own]) for name, own in groups.items()},
                    "class_mean": {
                        name: _mean_over_classes(right[own], labels[own])
                        for name, own in groups.items()
                    },
                }
            )
        masks = {name: int(np.count_nonzero(own)) for name, own in groups.items()}
        return {"masks": masks, "rows": rows}

    def headline(self, results: Sequence[dict[str, Any]]) -> str:
        """Returns the accuracy with the last set of sizes."""
        row = self.total(results)["rows"][-1]
        top1 = row["top1"]["all"]
        return "" if top1 is None else f"top-1 {top1:.2f} at {sizes_text(row)}"

    def _groups(self, labels: Int[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, " n"]]:
        every = np.ones(len(labels), bool)
        # Some datasets do not tell things from stuff.
        if any(info.isthing is None for info in self._classes.classes):
            return {"all": every}
        things = self._classes.is_thing[labels]
        return dict(zip(_GROUPS, (every, things, ~things), strict=True))


def _open(settings: MatchingSettings, data_dir: str) -> tuple[Benchmark, Vocabulary]:
    """Opens what is named, and looks at all that can be judged without a model."""
    check_naming(list(itertools.chain.from_iterable(settings.size_sets)), settings.average)
    check_templates(settings.templates)
    parts = open_benchmarks(settings.benchmark, data_dir, settings.split)
    benchmark = parts[0]
    if len(parts) > 1 or benchmark.classes is None or not _truths(benchmark):
        raise ValueError(f"{settings.benchmark} has no classes that masks could be named by.")
    if settings.truth and settings.truth not in _truths(benchmark):
        raise ValueError(
            f"{benchmark.name} has no {settings.truth} truth; expected one of "
            f"{', '.join(_truths(benchmark))}."
        )
    if settings.pooling and settings.pooling not in POOLINGS:
        raise ValueError(
            f"Unknown pooling {settings.pooling!r}; expected one of {', '.join(POOLINGS)}."
        )
    if settings.limit:
        first = dict(itertools.islice(benchmark.images.items(), settings.limit))
        benchmark = dataclasses.replace(benchmark, images=first)
    words = benchmark.words or benchmark.classes
    assert words is not None
    return benchmark, words.vocabulary(settings.synonyms or None)


def _truths(benchmark: Benchmark) -> list[str]:
    return [truth for truth in TRUTHS if truth in benchmark.tasks]


def _add_seconds_and_paper(document: dict[str, Any], seconds: dict[int, float]) -> None:
    paper = paper_matching_accuracy(document["benchmark"])
    for row in document["rows"]:
        row["seconds"] = sum(seconds[size] for size in row["sizes"])
        known = paper.get(tuple(row["sizes"]))
        row["paper"] = {"top1": known[0], "seconds": known[1]} if known else None


def _joined(lists: Iterable[Sequence[int]]) -> Int[np.ndarray, " n"]:
    return np.array([value for values in lists for value in values], np.int64)


def _percent(right: Bool[np.ndarray, " n"]) -> float | None:
    return 100.0 * float(right.mean()) if right.size else None


def _mean_over_classes(
    right: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"]
) -> float | None:
    """Returns the mean of the accuracies of the classes that occur."""
    found = [right[labels == label].mean() for label in np.unique(labels)]
    return 100.0 * float(np.mean(found)) if found else None
