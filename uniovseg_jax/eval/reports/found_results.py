"""Finds the results that runs have left, and reads them."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from uniovseg_jax.eval.result_files import MATCHING, RESULTS_FILE, flat_scores

Document = dict[str, Any]


def find_results(places: Sequence[str | os.PathLike[str]]) -> dict[pathlib.Path, Document]:
    """Reads results by the folder that they lie in.

    Args:
      places: Files, or folders in which all `results.json` at any depth are taken.

    Raises:
      FileNotFoundError: If there is none at a place.
      ValueError: If one is damaged or something else.
    """
    found = {}
    for place in map(pathlib.Path, places):
        files = sorted(place.rglob(RESULTS_FILE)) if place.is_dir() else [place]
        if not files or not files[0].is_file():
            raise FileNotFoundError(f"There is no {RESULTS_FILE} at {place}.")
        for path in files:
            found[path.parent] = _read(path)
    return found


def is_matching(document: Mapping[str, Any]) -> bool:
    """Whether results are those of naming true masks."""
    return document.get("kind") == MATCHING


def is_prompted(document: Mapping[str, Any]) -> bool:
    """Whether results are those of one set of masks for prompts, not the means of a suite."""
    return "promptable" in document.get("scores", {}) and "parts" not in document


def _read(path: pathlib.Path) -> Document:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    if not _has(document, benchmark=str, num_images=int, model=dict, settings=dict) or not _has(
        document["model"], directory=str, sha256=str
    ):
        raise ValueError(f"{path} is not what an evaluation leaves.")
    if not (_has_rows(document) if is_matching(document) else _has_scores(document)):
        raise ValueError(f"{path} holds no scores.")
    return document


def _has(document: Any, **kinds: Any) -> bool:
    return isinstance(document, dict) and all(
        isinstance(document.get(name), kind) for name, kind in kinds.items()
    )


def _has_rows(document: Document) -> bool:
    return _has(document, rows=list) and all(
        _has(row, sizes=list, top1=dict, seconds=int | float) and "all" in row["top1"]
        for row in document["rows"]
    )


def _has_scores(document: Document) -> bool:
    if not _has(document, scores=dict) or not _has(document["settings"], config=dict):
        return False
    try:
        scores = flat_scores(document).values()
    except AttributeError:  # Other groups than those of now.
        return False
    return all(value is None or isinstance(value, int | float) for value in scores)
