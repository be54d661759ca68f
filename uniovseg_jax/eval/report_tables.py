"""Results of several runs set beside the paper's tables, as text."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from uniovseg_jax.benchmarks.paper import OURS, paper_matching_accuracy, paper_rows, protocol_note
from uniovseg_jax.eval.matching_benchmark import KIND as MATCHING
from uniovseg_jax.eval.promptable import MODES
from uniovseg_jax.eval.result_files import RESULTS_FILE, flat_scores

# In the order of the paper's rows; whose own row comes last.
_GROUPS = {
    "fully_supervised": "fully supervised",
    "unsupervised": "unsupervised",
    "weakly_supervised": "weakly supervised",
}
_HERE = "measured here"
_LIMITED = "†"
_LIMITED_NOTE = f"{_LIMITED} of the first images only."

Document = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ReportTable:
    """One table.

    Attributes:
      title: Above it.
      header: Titles of columns.
      rows: Cells.
      strong: Rows that were measured here.
      groups: Rows that are titles of those below them.
      note: Below it; may be empty.
      text_columns: Columns from the left that hold words.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    note: str = ""
    text_columns: int = 1

    def markdown(self) -> str:
        """Returns it as Markdown."""
        lines = [f"## {self.title}", "", _line(self.header)]
        numbers = len(self.header) - self.text_columns
        lines.append("|" + " --- |" * self.text_columns + " ---: |" * numbers)
        for place, row in enumerate(self.rows):
            mark = "**" if place in self.strong else "*" if place in self.groups else ""
            lines.append(_line([f"{mark}{cell}{mark}" if cell else "" for cell in row]))
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"


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


def make_tables(documents: Sequence[Document], every: bool = False) -> list[ReportTable]:
    """Returns the tables that the results have numbers for.

    Args:
      documents: Of `find_results`.
      every: Whether to show the paper's benchmarks without a result too.

    Returns:
      Semantic and panoptic segmentation (tables 1 and 2) and instances, with the paper's methods,
      this one last; prompts; matching accuracy (table 4b).
    """
    scored = [document for document in documents if document.get("kind") != MATCHING]
    tables = [
        _method_table("Semantic segmentation, mIoU", ("semantic.miou",), scored, every),
        _method_table(
            "Panoptic segmentation",
            ("panoptic.pq", "panoptic.sq", "panoptic.rq"),
            scored,
            every,
        ),
        _method_table("Instance segmentation, mask AP", ("instance.ap",), scored, every),
        _prompt_table(scored),
        _matching_table([document for document in documents if document.get("kind") == MATCHING]),
    ]
    return [table for table in tables if table is not None]


def model_name(document: Document) -> str:
    """Returns what a result's model is called: its folder's name, and the protocol."""
    name = pathlib.PurePath(document["model"]["directory"]).name
    protocol = document["settings"].get("config", {}).get("protocol")
    return f"{name} ({protocol})" if protocol else name


def _method_table(
    title: str, metrics: Sequence[str], documents: Sequence[Document], every: bool
) -> ReportTable | None:
    """Returns a table of methods by benchmarks; None if nothing is to be shown."""
    published: dict[tuple[str, str, str], dict[str, dict[str, float]]] = {}
    for row in paper_rows():
        own = published.setdefault((row.group, row.method, row.training_data), {})
        for benchmark, scores in row.scores.items():
            own.setdefault(benchmark, {}).update(scores)
    measured = [
        document for document in documents if any(m in flat_scores(document) for m in metrics)
    ]
    # The paper's own rows have all of its benchmarks, in the order of its tables.
    order = dict.fromkeys(
        benchmark
        for row in paper_rows()
        if row.method == OURS
        for benchmark, values in row.scores.items()
        if any(metric in values for metric in metrics)
    )
    occurring = dict.fromkeys(document["benchmark"] for document in measured)
    shown = [name for name in order if every or name in occurring]
    shown += [name for name in occurring if name not in order]
    columns = [(benchmark, metric) for benchmark in shown for metric in metrics]
    if not columns:
        return None
    rows: list[tuple[str, ...]] = []
    groups = []
    for group, name in _GROUPS.items():
        own = [
            (method, data, *(_show(scores.get(b, {}).get(m), 1) for b, m in columns))
            for (of, method, data), scores in published.items()
            if of == group and any(m in scores.get(b, {}) for b, m in columns)
        ]
        if own:
            groups.append(len(rows))
            rows += [(name,) + ("",) * (len(columns) + 1), *own]
    first = len(rows)
    if measured:
        groups.append(first)
        rows.append((_HERE,) + ("",) * (len(columns) + 1))
    for name, cells in _merged(measured).items():
        rows.append((name[0], "", *(cells.get(column, "") for column in columns)))
    header = []
    for benchmark, metric in columns:
        short = metric.rpartition(".")[2].upper()
        # Of a benchmark's columns the first one says its name.
        named = benchmark if len(metrics) == 1 else f"{benchmark} {short}"
        header.append(named if metric == metrics[0] else short)
    return ReportTable(
        title,
        ("method", "training data", *header),
        tuple(rows),
        tuple(range(first + 1, len(rows))),
        tuple(groups),
        " ".join(filter(None, (_note(measured), *map(protocol_note, shown)))),
        text_columns=2,
    )


def _merged(documents: Sequence[Document]) -> dict[tuple[str, str, int], dict[Any, str]]:
    """Returns cells of all results of a model in one row, of repeated benchmarks in more."""
    rows: dict[tuple[str, str, int], dict[Any, str]] = {}
    for document in documents:
        name, digest = model_name(document), document["model"]["sha256"]
        cells = {
            (document["benchmark"], metric): _show(value, 1) + _mark(document)
            for metric, value in flat_scores(document).items()
            if value is not None
        }
        number = 0
        while rows.get((name, digest, number), {}).keys() & cells.keys():
            number += 1
        rows.setdefault((name, digest, number), {}).update(cells)
    return rows


def _prompt_table(documents: Sequence[Document]) -> ReportTable | None:
    scored = [document for document in documents if "promptable" in document["scores"]]
    found = {name for document in scored for name in document["scores"]["promptable"]}
    known = [name for mode in MODES for name in (mode, f"{mode}_ranked") if name in found]
    if not known:
        return None
    rows = []
    for document in scored:
        scores = document["scores"]["promptable"]
        cells = [_show(scores.get(name, {}).get("iou"), 1) for name in known]
        count = next(iter(scores.values())).get("masks", "") if scores else ""
        name = document["benchmark"] + _mark(document)
        rows.append((name, model_name(document), str(count), *cells))
    rows += _prompt_means(scored, known)
    note = "Mean IoU of true masks in percent; every mode is a quantity of its own."
    return ReportTable(
        "Masks for prompts",
        ("benchmark", "model", "masks", *known),
        tuple(rows),
        note=" ".join(filter(None, (note, _note(scored)))),
        text_columns=2,
    )


def _prompt_means(documents: Sequence[Document], known: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns for every model with several sets the plain means over them, SAM's suite score.

    Suites count as one set, by their own means; a mode is left out that a set was not scored in.
    """
    sets: dict[tuple[str, str], dict[str, Any]] = {}
    for document in documents:
        if "/" not in document["benchmark"]:
            key = model_name(document), document["model"]["sha256"]
            scores = document["scores"]["promptable"]
            sets.setdefault(key, {}).setdefault(document["benchmark"], scores)
    rows = []
    for (model, _), scores in sets.items():
        if len(scores) > 1:
            cells = []
            for name in known:
                values = [found[name]["iou"] for found in scores.values() if name in found]
                whole = len(values) == len(scores)
                cells.append(_show(sum(values) / len(values), 1) if whole else "")
            rows.append((f"mean of {len(scores)} sets", model, "", *cells))
    return rows


def _matching_table(documents: Sequence[Document]) -> ReportTable | None:
    if not documents:
        return None
    header, columns = ["input sizes"], []
    for document in documents:
        name = document["benchmark"] + _mark(document)
        paper = paper_matching_accuracy(document["benchmark"])
        top1 = {tuple(row["sizes"]): row["top1"]["all"] for row in document["rows"]}
        seconds = {tuple(row["sizes"]): row["seconds"] for row in document["rows"]}
        if paper:
            header.append(f"{name}: paper")
            columns.append({sizes: _show(score, 1) for sizes, (score, _) in paper.items()})
        header += [f"{name}: {model_name(document)}", "s / image"]
        columns.append({sizes: _show(value, 1) for sizes, value in top1.items()})
        columns.append({sizes: _show(value, 3) for sizes, value in seconds.items()})
    every = sorted({sizes for column in columns for sizes in column}, key=lambda s: (len(s), s))
    return ReportTable(
        "Naming true masks by CLIP alone, top-1 accuracy",
        tuple(header),
        tuple(
            (" + ".join(map(str, sizes)), *(column.get(sizes, "") for column in columns))
            for sizes in every
        ),
        note=_note(documents),
    )


def _read(path: pathlib.Path) -> Document:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}.") from error
    needed = {"benchmark", "model", "settings", "num_images"}
    if not isinstance(document, dict) or not needed <= set(document):
        raise ValueError(f"{path} is not what an evaluation leaves.")
    kind = "rows" if document.get("kind") == MATCHING else "scores"
    if not isinstance(document.get(kind), list if kind == "rows" else dict):
        raise ValueError(f"{path} holds no scores.")
    return document


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mark(document: Document) -> str:
    return _LIMITED if document.get("limited") else ""


def _note(documents: Sequence[Document]) -> str:
    return _LIMITED_NOTE if any(document.get("limited") for document in documents) else ""


def _show(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
