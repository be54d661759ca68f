"""Matching accuracy on a benchmark: true masks of a dataset, named by a model's CLIP alone."""

import dataclasses
import datetime
import itertools
import json
import os
import pathlib
from typing import Any

import jax

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.paper import names_notes, paper_matching_accuracy
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.eval.image_log import ImageLog, check_log, read_image_log
from uniovseg_jax.eval.naming.matching_accuracy import RegionNamer, check_naming
from uniovseg_jax.eval.naming.matching_scorer import MatchingScorer, MatchingSettings
from uniovseg_jax.eval.naming.matching_table import make_matching_table
from uniovseg_jax.eval.naming.true_regions import TRUTHS
from uniovseg_jax.eval.parts import Part, check_model, check_parts, digest, note_checked
from uniovseg_jax.eval.result_files import MATCHING, RESULTS_FILE, TABLE_FILE
from uniovseg_jax.eval.run import ordered, score_images
from uniovseg_jax.files import check_folder, write_text_whole
from uniovseg_jax.locks import held_alone
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.prompt_templates import check_templates
from uniovseg_jax.settings import read_settings
from uniovseg_jax.versions import versions
from uniovseg_jax.vocabulary import Vocabulary
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256

POOLINGS = ("binary", "binary_or_soft", "area")
_SECONDS_FILE = "seconds.json"
_OPEN = (
    "The paper does not say whether its masks are things only, how sizes are averaged, and what of "
    "an image a size is; here it is the long side."
)


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

    Where nothing is left to do, the results stay what they were.

    Args:
      settings: What decides the result.
      model: Model directory with the part `clip`.
      data_dir: Folder of all datasets.
      output: Folder for `results.json` and `results.md`.
      text_cache: Folder in which vectors of names are kept; empty for none.
      threads_per_device: At least 1.
      progress: Whether to show bars.

    Returns:
      What `results.json` holds: `rows` with `sizes`, `top1` and `class_mean` (percent, by group of
      classes), `seconds` per image, and what the paper reports.

    Raises:
      FileNotFoundError: If the model or the data are not there.
      ValueError: If anything does not fit together, in one sentence.
    """
    if text_cache:
        check_folder(pathlib.Path(text_cache))
    benchmark, vocabulary = _open(settings, data_dir)
    config = check_model(model, ("clip",))
    settings = dataclasses.replace(
        settings,
        truth=settings.truth or _truths(benchmark)[0],
        pooling=settings.pooling or config.pooling,
    )
    made_with = {
        **dataclasses.asdict(settings),
        "images": digest(benchmark.images),
        "names": digest(vocabulary.names),
        "preparation": benchmark.preparation,
    }
    check_log(output, made_with)
    part, ids = Part(benchmark, (settings.truth,), vocabulary), list(benchmark.images)
    with held_alone(output, "evaluation"):
        check_parts([part], data_dir, output, progress)
        note_checked(output, [part], data_dir)
        pretrained = _load(model, settings.pooling)
        made_with["model"] = params_sha256(pretrained.variables)
        with ImageLog(output, made_with) as log:
            if (output / RESULTS_FILE).is_file() and log.done.keys() >= set(ids):
                return read_settings(output / RESULTS_FILE)
            scorer = MatchingScorer(
                benchmark, vocabulary, settings, pretrained, text_cache, progress
            )
            score_images(scorer, ids, log, threads_per_device, progress, benchmark.name)
        results = ordered(read_image_log(output), ids)
        document = {
            "kind": MATCHING,
            "benchmark": benchmark.name,
            "date": datetime.date.today().isoformat(),
            "num_images": len(results),
            "limited": bool(settings.limit),
            "as_published": benchmark.as_published,
            "model": {"directory": os.path.abspath(model), "sha256": made_with["model"]},
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
        _add_seconds_and_paper(document, _seconds(scorer.namer, output, progress))
        write_text_whole(output / TABLE_FILE, make_matching_table(document))
        # Last: it says that all is there.
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        write_text_whole(output / RESULTS_FILE, text)
    return document


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
    benchmark = benchmark.first(settings.limit)
    words = benchmark.words or benchmark.classes
    assert words is not None
    return benchmark, words.vocabulary(settings.synonyms or None)


def _truths(benchmark: Benchmark) -> list[str]:
    return [truth for truth in TRUTHS if truth in benchmark.tasks]


def _load(model: str, pooling: str) -> Pretrained:
    pretrained = load_pretrained(model)
    config = dataclasses.replace(pretrained.config, pooling=pooling)
    return dataclasses.replace(pretrained, config=config, model=UniOVSeg(config))


def _seconds(namer: RegionNamer, output: pathlib.Path, progress: bool) -> dict[int, float]:
    """Times all sizes once for a folder of results."""
    path = output / _SECONDS_FILE
    if path.is_file():
        return {int(size): value for size, value in read_settings(path).items()}
    seconds = namer.seconds(progress)
    text = json.dumps(seconds) + "\n"
    write_text_whole(path, text)
    return seconds


def _add_seconds_and_paper(document: dict[str, Any], seconds: dict[int, float]) -> None:
    paper = paper_matching_accuracy(document["benchmark"])
    for row in document["rows"]:
        row["seconds"] = sum(seconds[size] for size in row["sizes"])
        known = paper.get(tuple(row["sizes"]))
        row["paper"] = {"top1": known[0], "seconds": known[1]} if known else None
