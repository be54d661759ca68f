"""Names of the true masks of an image by CLIP alone, and what they add up to."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.eval.naming.matching_accuracy import RegionNamer
from uniovseg_jax.eval.naming.matching_table import sizes_text
from uniovseg_jax.eval.naming.true_regions import region_reader
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.vocabulary import Vocabulary
from uniovseg_jax.weights.store import Pretrained

PAPER_SIZES = ((768,), (896,), (1024,), (768, 896), (896, 1024), (768, 896, 1024))
_GROUPS = ("all", "things", "stuff")


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
      pooling: One of `matching_benchmark.POOLINGS`; empty for the model's own.
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


class MatchingScorer:
    """Names the true masks of an image at all sizes.

    Args:
      benchmark: With classes and the truth that the settings name.
      vocabulary: Names of its words or classes.
      settings: What to do.
      pretrained: A model with the part `clip`.
      text_cache: Folder in which vectors of names are kept; empty for none.
      progress: Whether to show a bar while names are embedded.

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
        progress: bool = False,
    ):
        assert benchmark.classes is not None
        encoder = TextEncoder(pretrained, settings.templates, text_cache or None)
        self.namer = RegionNamer(
            pretrained,
            encoder.embed(vocabulary.names, progress),
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
