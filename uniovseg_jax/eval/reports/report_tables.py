"""Results of several runs set beside the paper's tables, as text."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from uniovseg_jax.benchmarks.paper import OURS, paper_matching_accuracy, paper_rows, protocol_note
from uniovseg_jax.eval.metrics.promptable import MODES
from uniovseg_jax.eval.reports.found_results import Document, is_matching
from uniovseg_jax.eval.reports.run_labels import RunLabels
from uniovseg_jax.eval.result_files import flat_scores

# In the order of the paper's rows; whose own row comes last.
_GROUPS = {
    "fully_supervised": "fully supervised",
    "unsupervised": "unsupervised",
    "weakly_supervised": "weakly supervised",
}
_HERE = "measured here"


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


def make_tables(
    documents: Sequence[Document], labels: RunLabels, every: bool = False
) -> list[ReportTable]:
    """Returns the tables that the results have numbers for.

    Args:
      documents: Of `find_results`.
      labels: Of these.
      every: Whether to show the paper's benchmarks without a result too.

    Returns:
      Semantic and panoptic segmentation (tables 1 and 2) and instances, with the paper's methods,
      this one last; prompts; matching accuracy (table 4b); the runs.
    """
    scored = [document for document in documents if not is_matching(document)]
    of_panoptic = ("panoptic.pq", "panoptic.sq", "panoptic.rq")
    tables = [
        _method_table("Semantic segmentation, mIoU", ("semantic.miou",), scored, labels, every),
        _method_table("Panoptic segmentation", of_panoptic, scored, labels, every),
        _method_table("Instance segmentation, mask AP", ("instance.ap",), scored, labels, every),
        _prompt_table(scored, labels),
        _matching_table([d for d in documents if is_matching(d)], labels),
        _table_of_runs(documents, labels),
    ]
    return [table for table in tables if table is not None]


def _method_table(
    title: str,
    metrics: Sequence[str],
    documents: Sequence[Document],
    labels: RunLabels,
    every: bool,
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
    for name, cells in _merged(measured, labels).items():
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
        " ".join(filter(None, (labels.note(measured), *map(protocol_note, shown)))),
        text_columns=2,
    )


def _merged(
    documents: Sequence[Document], labels: RunLabels
) -> dict[tuple[str, str, int], dict[Any, str]]:
    """Returns cells by model and settings; repeated benchmarks have rows of their own."""
    rows: dict[tuple[str, str, int], dict[Any, str]] = {}
    for document in documents:
        name, digest = labels.row(document)
        cells = {
            (document["benchmark"], metric): _show(value, 1) + labels.mark(document)
            for metric, value in flat_scores(document).items()
            if value is not None
        }
        number = 0
        while rows.get((name, digest, number), {}).keys() & cells.keys():
            number += 1
        rows.setdefault((name, digest, number), {}).update(cells)
    return rows


def _prompt_table(documents: Sequence[Document], labels: RunLabels) -> ReportTable | None:
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
        name = document["benchmark"] + labels.mark(document)
        rows.append((name, labels.model(document), str(count), *cells))
    rows += _prompt_means(scored, labels, known)
    note = "Mean IoU of true masks in percent; every mode is a quantity of its own."
    return ReportTable(
        "Masks for prompts",
        ("benchmark", "model", "masks", *known),
        tuple(rows),
        note=" ".join(filter(None, (note, labels.note(scored)))),
        text_columns=2,
    )


def _prompt_means(
    documents: Sequence[Document], labels: RunLabels, known: Sequence[str]
) -> list[tuple[str, ...]]:
    """Returns for every model with several sets the plain means over them, SAM's suite score.

    Suites count as one set, by their own means; a mode is left out that a set was not scored in.
    """
    sets: dict[tuple[str, str], dict[str, Document]] = {}
    for document in documents:
        if "/" not in document["benchmark"]:
            own = sets.setdefault(labels.row(document), {})
            own.setdefault(document["benchmark"], document)
    rows = []
    for (model, _), own in sets.items():
        if len(own) > 1:
            scores = [document["scores"]["promptable"] for document in own.values()]
            cells = []
            for name in known:
                values = [found[name]["iou"] for found in scores if name in found]
                whole = len(values) == len(scores)
                cells.append(_show(sum(values) / len(values), 1) if whole else "")
            mark = max(map(labels.mark, own.values()))
            rows.append((f"mean of {len(own)} sets{mark}", model, "", *cells))
    return rows


def _matching_table(documents: Sequence[Document], labels: RunLabels) -> ReportTable | None:
    if not documents:
        return None
    header, columns = ["input sizes"], []
    for document in documents:
        name = document["benchmark"] + labels.mark(document)
        paper = paper_matching_accuracy(document["benchmark"])
        top1 = {tuple(row["sizes"]): row["top1"]["all"] for row in document["rows"]}
        seconds = {tuple(row["sizes"]): row["seconds"] for row in document["rows"]}
        if paper:
            header.append(f"{name}: paper")
            columns.append({sizes: _show(score, 1) for sizes, (score, _) in paper.items()})
        header += [f"{name}: {labels.model(document)}", "s / image"]
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
        note=labels.note(documents),
    )


def _table_of_runs(documents: Sequence[Document], labels: RunLabels) -> ReportTable | None:
    if not documents:
        return None
    rows = []
    for document in documents:
        seconds = document.get("seconds_per_image")
        rows.append(
            (
                document["benchmark"],
                labels.model(document),
                document["model"]["sha256"][:8],
                f"{document['num_images']}{labels.mark(document)}",
                f"{sum(seconds.values()):.2f}" if seconds else "",
                str(document.get("date", "")),
            )
        )
    return ReportTable(
        "Runs",
        ("benchmark", "model", "sha256", "images", "s / image", "date"),
        tuple(rows),
        note=labels.note(documents),
        text_columns=3,
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
