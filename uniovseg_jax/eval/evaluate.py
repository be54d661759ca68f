"""Scores a model on a benchmark as a configuration of configs/eval.py says."""

import contextlib
import datetime
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from uniovseg_jax.benchmarks.paper import names_notes
from uniovseg_jax.eval.from_config import (
    deciding_settings,
    framing_settings,
    grid_side,
    make_framing,
    make_segmenter_config,
    split_lists,
)
from uniovseg_jax.eval.image_log import ImageLog, check_log, read_image_log
from uniovseg_jax.eval.metrics.promptable import suite_means
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.parts import (
    PROMPTABLE,
    Part,
    check_model,
    check_parts,
    check_tools,
    choose_images,
    digest,
    missing_tasks,
    note_checked,
    open_parts,
)
from uniovseg_jax.eval.prediction_files import FOLDER, PredictionFiles
from uniovseg_jax.eval.prompted import PromptScorer
from uniovseg_jax.eval.result_files import as_percent, write_results
from uniovseg_jax.eval.run import ordered, score_images
from uniovseg_jax.eval.sentences import sentences_of_parts
from uniovseg_jax.eval.worst import write_worst
from uniovseg_jax.inference.framing import Framing
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter
from uniovseg_jax.locks import held_alone
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.processes import all_or_none
from uniovseg_jax.settings import as_json
from uniovseg_jax.versions import versions
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256


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
      The results of every part, as `results.json` holds them, and after those of a suite their
      means; none on other processes than the first.

    Raises:
      FileNotFoundError: If the model or the data are not there.
      ImportError: If what a task is scored by is not installed.
      ValueError: If anything does not fit together, in one sentence.
    """
    first = jax.process_index() == 0
    progress = progress and first
    with contextlib.ExitStack() as stack:
        with all_or_none("Opening the benchmark"):
            config = split_lists(config)
            parts = open_parts(config, data_dir)
            check_tools(parts)
            model_config = check_model(model)
            _check_folders(parts, config, model_config, output)
            if first:
                stack.enter_context(held_alone(output, "evaluation"))
                for sentence in missing_tasks(parts[0], config):
                    logging.warning(sentence)
        with all_or_none("Choosing the images"):
            if first:  # What it draws the others read.
                choose_images(parts, config, data_dir, output, progress)
        with all_or_none("The check of the benchmark"):
            parts = choose_images(parts, config, data_dir, output, progress)
            _check_folders(parts, config, model_config, output, chosen=True)
            check_parts(parts, data_dir, output, progress)
        with all_or_none("Loading the model"):
            if first:
                note_checked(output, parts, data_dir)
            loaded = EvaluatedModel(model)
        results = []
        for part in parts:
            folder = _folder(part, parts, output)
            result = _score_part(part, config, loaded, data_dir, folder, progress)
            results += [] if result is None else [result]
        with all_or_none("Writing the means"):
            if first and len(parts) > 1:
                means = _suite_document(config, results)
                write_results(means, output)
                results.append(means)
    return results


class EvaluatedModel:
    """A model, what results say of it, and what all parts share that are seen alike."""

    def __init__(self, directory: str):
        self.pretrained: Pretrained = load_pretrained(directory)
        sha256 = params_sha256(self.pretrained.variables)
        # Reports look for it again, from wherever they are made.
        self.about = {"directory": str(pathlib.Path(directory).absolute()), "sha256": sha256}
        self._predictors: dict[Framing, Predictor] = {}

    def predictor(self, framing: Framing) -> Predictor:
        """Returns the same predictor for the same framing, since it is compiled for long."""
        if framing not in self._predictors:
            self._predictors[framing] = Predictor(self.pretrained, framing)
        return self._predictors[framing]


def _score_part(
    part: Part,
    config: ml_collections.ConfigDict,
    model: EvaluatedModel,
    data_dir: str,
    folder: pathlib.Path,
    progress: bool,
) -> dict[str, Any] | None:
    """Scores all images of a part, and on the first process writes what came out."""
    process, ids = jax.process_index(), list(part.benchmark.images)
    with all_or_none("Preparing the model"):
        framing = make_framing(config, part.benchmark, model.pretrained.config)
        settings = {
            **_settings(part, config, framing, model.pretrained.config),
            "images": part.images_sha256,
            "model": model.about["sha256"],
        }
        files = None
        if config.save_predictions:
            files = PredictionFiles(folder / FOLDER, part.benchmark)
        scorer = make_scorer(part, config, model, framing, files, progress)
    # Where a folder is shared by a network, others see a file as it was when it was closed.
    with all_or_none("Scoring"), _open_log(folder, settings) as log:
        title = part.benchmark.name
        score_images(scorer, ids, log, config.threads_per_device, progress, title)
    with all_or_none("Writing the results"):
        if process != 0:
            return None
        done = read_image_log(folder)
        results = ordered(done, ids)
        if files is not None:
            files.finish(part.tasks, ids)
        document = as_percent(
            {
                "benchmark": part.benchmark.name,
                "date": datetime.date.today().isoformat(),
                "num_images": len(results),
                "limited": bool(config.limit),
                "as_published": part.benchmark.as_published,
                "model": model.about,
                "data_dir": str(pathlib.Path(data_dir).absolute()),
                "settings": settings,
                "unverified": [*_unverified(part, config), *scorer.notes(results)],
                "scores": scorer.total(results),
                "seconds_per_image": _median_seconds(results),
                "versions": versions(),
            },
            part.benchmark.classes,
        )
        write_results(document, folder)
        write_worst(scorer, part.benchmark, done, config.worst, folder, progress)
        return document


def _open_log(folder: pathlib.Path, settings: dict[str, Any]) -> ImageLog:
    """Opens the log; the first process leaves its settings, which those of all others must be."""
    process, log = jax.process_index(), None
    with all_or_none("Opening the log"):
        if process == 0:
            log = ImageLog(folder, settings)
    with all_or_none("Opening the log"):
        return ImageLog(folder, settings, process) if log is None else log


def make_scorer(
    part: Part,
    config: ml_collections.ConfigDict,
    model: EvaluatedModel,
    framing: Framing,
    files: PredictionFiles | None = None,
    progress: bool = False,
) -> NamedScorer | PromptScorer:
    """Returns what scores the images of a part; names are embedded, if need be with a bar."""
    if part.vocabulary is None:
        prompts = config.prompts
        return PromptScorer(
            part.benchmark,
            model.predictor(framing),
            tuple(prompts.modes),
            prompts.points_per_side,
            prompts.seed,
        )
    segmenter = OpenVocabularySegmenter(
        model.pretrained, make_segmenter_config(config, framing), config.text_cache or None
    )
    segmenter.use_vocabulary(part.vocabulary, progress=progress)
    return NamedScorer(part.benchmark, part.tasks, segmenter, files)


def _folder(part: Part, parts: Sequence[Part], output: pathlib.Path) -> pathlib.Path:
    return output / part.benchmark.name if len(parts) > 1 else output


def _check_folders(
    parts: Sequence[Part],
    config: ml_collections.ConfigDict,
    model: UniOVSegConfig,
    output: pathlib.Path,
    chosen: bool = False,
) -> None:
    """Raises a ValueError if a folder holds a run of other settings, as far as they are known."""
    for part in parts:
        settings = _settings(part, config, make_framing(config, part.benchmark, model), model)
        images = {"images": part.images_sha256} if chosen else {}
        check_log(_folder(part, parts, output), {**settings, **images})


def _settings(
    part: Part, config: ml_collections.ConfigDict, framing: Framing, model: UniOVSegConfig
) -> dict[str, Any]:
    """Returns what decides the result of an image, but for the model and the list of images."""
    classes = part.benchmark.classes
    names = part.vocabulary.names if part.vocabulary else ()
    return as_json(
        {
            "benchmark": part.benchmark.name,
            "tasks": part.tasks,
            "config": deciding_settings(config),
            "input": framing_settings(framing),
            "points_per_side": grid_side(config, model, part.vocabulary is None),
            "preparation": part.benchmark.preparation,
            "classes": {"name": classes.name, "sha256": classes.sha256} if classes else None,
            "names": {"count": len(names), "sha256": digest(names)},
        }
    )


def _unverified(part: Part, config: ml_collections.ConfigDict) -> list[str]:
    benchmark = part.benchmark
    notes = () if part.vocabulary is None else names_notes(benchmark.name, config.synonyms)
    return [*missing_tasks(part, config), *benchmark.unverified, *notes]


def _median_seconds(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    spent = [result["seconds"] for result in results]
    names = dict.fromkeys(name for seconds in spent for name in seconds)
    return {name: float(np.median([seconds.get(name, 0.0) for seconds in spent])) for name in names}


def _suite_document(
    config: ml_collections.ConfigDict, results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the means of a suite, in percent as its parts are.

    A part without a mask among its images, as a limit or a sample may leave it, has no score to go
    into the means, which say so.
    """
    everything = {result["benchmark"]: result["scores"][PROMPTABLE] for result in results}
    scores = {name: modes for name, modes in everything.items() if modes}
    sentences = sentences_of_parts({r["benchmark"]: r["unverified"] for r in results})
    if without := [name for name in everything if name not in scores]:
        sentences.append(
            f"No image that was scored has a mask in {', '.join(without)}: the means leave it out."
        )
    first, *others = (result["settings"] for result in results)
    alike = ("config", "input", "points_per_side")
    return {
        **results[0],
        "benchmark": config.benchmark,
        "num_images": sum(result["num_images"] for result in results),
        "as_published": all(result["as_published"] for result in results),
        "settings": {"benchmark": config.benchmark}
        | {name: first[name] for name in alike if all(own[name] == first[name] for own in others)},
        "parts": list(scores),
        "scores": {PROMPTABLE: suite_means(scores) if scores else {}},
        "seconds_per_image": {},
        "unverified": sentences,
    }
