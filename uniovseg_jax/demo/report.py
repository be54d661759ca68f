"""Writes `report.json` and `report.html` from measured numbers and finished pictures."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax import html
from uniovseg_jax.alignment.pairs import Pair
from uniovseg_jax.files import write_text_whole
from uniovseg_jax.inference.results import Segmentation

Picture = UInt8[np.ndarray, "_h _w 3"]

# Columns of the tables: key in report.json, and heading.
_COLUMNS = (
    ("miou_seen", "mIoU seen"),
    ("miou_unseen", "mIoU unseen"),
    ("miou_stuff", "mIoU stuff"),
    ("miou", "mIoU nouns"),
    ("pq", "PQ nouns"),
    ("right_noun_wrong_colour", "right noun, wrong colour"),
    ("right_colour_wrong_noun", "right colour, wrong noun"),
)


@dataclasses.dataclass(frozen=True)
class ScenePicture:
    """One scene, segmented with words.

    Attributes:
      title: Name of the scene.
      image: The scene.
      before: Overlay of the baseline's segments.
      after: Overlay of the aligned model's segments.
      result: The aligned model's segments.
    """

    title: str
    image: Picture
    before: Picture
    after: Picture
    result: Segmentation


@dataclasses.dataclass(frozen=True)
class PairPicture:
    """One matched pair.

    Attributes:
      pair: Mask, entity, costs and runners-up.
      picture: The image with the mask outlined.
      verdict: `right`, `part` or `wrong`, by the true names.
    """

    pair: Pair
    picture: Picture
    verdict: str


@dataclasses.dataclass(frozen=True)
class FailurePicture:
    """One scene that went wrong.

    Attributes:
      title: Name of the scene.
      accuracy: Share of its pixels that are named right, 0..1.
      truth: Overlay of the true segments.
      predicted: Overlay of the predicted ones.
    """

    title: str
    accuracy: float
    truth: Picture
    predicted: Picture


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Everything in the report that is no number.

    Attributes:
      words: What the scenes were segmented with.
      scenes: A few scenes with their results.
      pairs: Matched pairs from the cheapest to the dearest.
      failures: The worst scenes.
      curves: Per chart, per run, steps and losses.
    """

    words: str
    scenes: Sequence[ScenePicture]
    pairs: Sequence[PairPicture]
    failures: Sequence[FailurePicture]
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]]


def write_report(
    report: Mapping[str, Any], pictures: Pictures, directory: str | os.PathLike[str]
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes both files, each in one move, and returns their paths: JSON and HTML.

    Numbers that are not finite become null in the JSON file.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(_finite(report), indent=2, allow_nan=False) + "\n"
    page = render_html(report, pictures)
    paths = directory / "report.json", directory / "report.html"
    write_text_whole(paths[0], as_json)
    write_text_whole(paths[1], page)
    return paths


def render_html(report: Mapping[str, Any], pictures: Pictures) -> str:
    """Returns the page; it refers to nothing outside itself."""
    split = report["split"]
    scores = report[split]
    body = ["<h1>Names for masks, from captions alone</h1>"]
    body.append(html.paragraph(_summary(report)))
    body += _scenes(pictures)
    body += _tables(scores, split, report)
    body += _pairs(report, pictures)
    body += _failures(pictures)
    body.append("<h2>Losses</h2>")
    for title, curves in pictures.curves.items():
        body += [f"<h3>{html.text(title)}</h3>", html.line_chart(curves, "step", "loss")]
    body += _origin(report)
    return html.page("uniovseg_jax: demo on tinyscenes", body)


def _summary(report: Mapping[str, Any]) -> str:
    scores = report[report["split"]]
    baseline, unpaired = scores["baseline"], scores["unpaired"]
    counts = report["pairs"]["counts"]
    words = (
        f"{counts['images']} scenes with captions and no masks gave {counts['pairs']} pairs of a "
        "mask and an entity, and an adapter learned from them which name belongs to which region. "
        f"On {report['num_images']} scenes never seen, the mIoU of the seen colour-thing "
        f"combinations went from {_number(baseline['miou_seen'])} (frozen CLIP) to "
        f"{_number(unpaired['miou_seen'])}; with true names in training it is "
        f"{_number(scores['paired']['miou_seen'])}."
    )
    return f"{words} Gap closed: {_gap(scores)}."


def _scenes(pictures: Pictures) -> list[str]:
    body = [
        "<h2>Scenes segmented with words</h2>",
        html.paragraph(f"The words: {pictures.words}."),
        html.paragraph(
            "From left to right: the scene, the frozen CLIP on the same masks (baseline), the "
            "aligned model. A score is the probability of the name against all other words.",
            note=True,
        ),
    ]
    for scene in pictures.scenes:
        body.append(f"<h3>{html.text(scene.title)}</h3>")
        body.append(
            html.grid(
                [
                    html.figure(scene.image, "scene", f"{scene.title}"),
                    html.figure(scene.before, "baseline", f"{scene.title}, baseline"),
                    html.figure(scene.after, "<b>aligned</b>", f"{scene.title}, aligned"),
                ],
                280,
            )
        )
        rows = [
            (
                segment.name,
                f"{segment.score:.2f}",
                "" if segment.runner_up is None else segment.runner_up,
                "" if segment.runner_up_score is None else f"{segment.runner_up_score:.2f}",
                f"{segment.quality:.2f}",
                segment.area,
            )
            for segment in scene.result.segments
        ]
        header = ("segment", "score", "runner-up", "its score", "mask quality", "pixels")
        body.append(html.table(header, rows))
    return body


def _tables(scores: Mapping[str, Any], split: str, report: Mapping[str, Any]) -> list[str]:
    body = [
        f"<h2>Results on {html.text(split)}</h2>",
        html.paragraph(
            f"{report['num_images']} scenes, in percent. Seen, unseen and stuff share one "
            "vocabulary of 96 colour-thing combinations and 8 kinds of stuff; unseen combinations "
            "occur in no training picture. Nouns are the 20 things and stuffs, a thing's eight "
            "coloured names being its synonyms. The two last columns are shares of the true things."
        ),
    ]
    for title, rows in (
        ("Predicted masks", scores),
        ("True masks in place of the proposals", scores["true_masks"]),
    ):
        named = [
            ("baseline: frozen CLIP", rows["baseline"]),
            ("unpaired, cosine loss", rows["unpaired"]),
            ("paired ceiling, cosine loss", rows["paired"]),
            ("unpaired, contrastive loss", rows["contrastive"]["unpaired"]),
            ("paired ceiling, contrastive loss", rows["contrastive"]["paired"]),
        ]
        body.append(f"<h3>{title}</h3>")
        body.append(
            html.table(
                ("", *(heading for _, heading in _COLUMNS)),
                [(name, *(_number(row[key]) for key, _ in _COLUMNS)) for name, row in named],
                strong=(1,),
            )
        )
        body.append(
            html.paragraph(
                f"Gap closed on mIoU seen: cosine {_gap(rows)}, contrastive "
                f"{_gap(rows['contrastive'])}.",
                note=True,
            )
        )
    return body


def _pairs(report: Mapping[str, Any], pictures: Pictures) -> list[str]:
    pairs = report["pairs"]
    accuracy = pairs["matching_accuracy"]
    body = [
        "<h2>Matched masks and entities</h2>",
        html.paragraph(
            f"{pairs['counts']['regions']} proposals and {pairs['counts']['entities']} entities "
            f"gave {pairs['counts']['pairs']} pairs. By the true names, which training never "
            f"sees, {_number(accuracy['strict'])} % of them are right, "
            f"{_number(accuracy['with_parts'])} % with parts of the right thing counted. The "
            f"{pairs['confident']} pairs with the largest margin to the next best are trained on: "
            f"{_number(accuracy['confident_strict'])} % of them are right. The cost "
            f"is the mean over image sides {', '.join(map(str, pairs['align_scales']))}. The "
            "pairs shown are spread evenly from the cheapest to the dearest."
        ),
    ]
    figures = []
    for item in pictures.pairs:
        pair = item.pair
        scales = ", ".join(f"{cost:.3f}" for cost in pair.cost_per_scale)
        caption = (
            f'<b>{html.text(pair.entity)}</b> <span class="{item.verdict}">{item.verdict}</span>'
            f"<br>cost {pair.cost:.3f} ({scales})"
        )
        if pair.other_entity is not None and pair.other_entity_cost is not None:
            caption += (
                f"<br>next entity: {html.text(pair.other_entity)} {pair.other_entity_cost:.3f}"
            )
        if pair.other_region_cost is not None:
            caption += f"<br>next mask: {pair.other_region_cost:.3f}"
        figures.append(html.figure(item.picture, caption, f"mask matched with {pair.entity}"))
    body.append(html.grid(figures, 190))
    return body


def _failures(pictures: Pictures) -> list[str]:
    body = [
        "<h2>Where it fails</h2>",
        html.paragraph(
            "The scenes with the smallest share of rightly named pixels under the joint "
            "vocabulary: the truth on the left, the aligned model on the right."
        ),
    ]
    for failure in pictures.failures:
        share = f"{100 * failure.accuracy:.0f} % of the pixels right"
        body.append(f"<h3>{html.text(failure.title)}: {share}</h3>")
        body.append(
            html.grid(
                [
                    html.figure(failure.truth, "truth", f"{failure.title}, truth"),
                    html.figure(failure.predicted, "aligned", f"{failure.title}, aligned"),
                ],
                280,
            )
        )
    return body


def _origin(report: Mapping[str, Any]) -> list[str]:
    seconds = report["seconds"]
    retrieval = report["clip"]["retrieval"]
    facts = [
        ("command", report["command"]),
        ("world seed", report["seed"]),
        ("weights", report["weights"]),
        ("CLIP: own caption nearest of its group on web val", f"{_number(retrieval)} %"),
        ("peak memory", f"{report['peak_memory_gib']:.2f} GiB"),
        *((name, version) for name, version in report["versions"].items()),
    ]
    return [
        "<h2>How this was made</h2>",
        html.table(("", ""), facts),
        html.table(
            ("part", "seconds"), [(name, f"{value:.1f}") for name, value in seconds.items()]
        ),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.1f}"


def _gap(rows: Mapping[str, Any]) -> str:
    if rows["gap_closed"] is None:
        return "meaningless (the ceiling is too near the baseline)"
    return f"{rows['gap_closed']:.0f} %"


def _finite(value: Any) -> Any:
    """Returns the value with numbers that JSON cannot hold as None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
