r"""Scores the masks that a model gives for points and boxes against true masks.

  python scripts/evaluate_masks.py --model=<dir> --data=<dir of mask records> --output=<dir> \
      --modes=grid_any,center,box --baseline=superpixels

Writes scores.json, scores.md (one table) and examples.png; the modes are those of
uniovseg_jax/eval/metrics/promptable.py. Without --model the baseline is scored alone.
Exit code: 0; 2 if nothing could be done.
"""

import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tqdm
from absl import app, flags, logging
from PIL import Image

from uniovseg_jax import visualize
from uniovseg_jax.command_line import parse_flags
from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.eval.metrics.promptable import MODES, BestMasks, PromptableScores, TrueMasks
from uniovseg_jax.eval.prompted import find_best_masks, read_record
from uniovseg_jax.eval.superpixels import find_best_segments, superpixel_pool
from uniovseg_jax.files import make_folder, write_text_whole, write_whole
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.versions import versions
from uniovseg_jax.weights.store import load_pretrained, params_sha256

# Of a model by default; where one is scored, its own number counts.
_MASKS_PER_POINT = 4
# Images in examples.png, and the side of each in pixels.
_EXAMPLES, _CELL = 6, 384

flags.DEFINE_string("model", None, "Model directory.")
flags.DEFINE_string("data", None, "Directory of mask records.", required=True)
flags.DEFINE_string("output", None, "Folder for the results; made when needed.", required=True)
flags.DEFINE_list("modes", ["grid_any", "center", "box"], f"Some of {', '.join(MODES)}.")
flags.DEFINE_integer("points_per_side", 20, "Side of the point grid.", lower_bound=1)
flags.DEFINE_float(
    "min_area", 0.001, "Least area of a true mask, as a share of its image.", 0.0, 1.0
)
flags.DEFINE_enum(
    "baseline",
    None,
    ["superpixels"],
    "Scored beside the model: as many superpixels as the grid has masks.",
)
flags.DEFINE_integer("limit", None, "Score only the first images.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Of the points of the mode random.", lower_bound=0)
FLAGS = flags.FLAGS

# image, true masks, image id -> by mode the best mask for every true one.
Scorer = Callable[[np.ndarray, TrueMasks, str], Mapping[str, BestMasks]]


class ModelScorer:
    """Scores a model."""

    def __init__(self, directory: str):
        pretrained = load_pretrained(directory)
        self.about = {"directory": directory, "sha256": params_sha256(pretrained.variables)}
        self.masks_per_point = pretrained.config.masks_per_point
        self._predictor = Predictor(pretrained)

    def __call__(
        self, image: np.ndarray, truth: TrueMasks, image_id: str
    ) -> Mapping[str, BestMasks]:
        """Asks the model in the modes of the flags."""
        return find_best_masks(
            self._predictor,
            image,
            truth,
            FLAGS.modes,
            FLAGS.points_per_side,
            (FLAGS.seed, image_id),
        )


class SuperpixelScorer:
    """Scores superpixels, and counts them."""

    def __init__(self, num_segments: int):
        self._wanted = num_segments
        self._found: list[int] = []

    def __call__(
        self, image: np.ndarray, truth: TrueMasks, image_id: str
    ) -> Mapping[str, BestMasks]:
        """Makes the superpixels; the image's id plays no part."""
        pool = superpixel_pool(image, self._wanted)
        self._found.append(sum(int(label_map.max()) + 1 for label_map in pool))
        return {"grid_any": find_best_segments(truth, pool)}

    @property
    def about(self) -> dict[str, Any]:
        """What the report says of them."""
        return {
            "segments_wanted": self._wanted,
            "segments_per_image": float(np.mean(self._found)) if self._found else 0.0,
        }


def open_records() -> Any:
    """Opens the data; raises ValueError if it holds no record."""
    records = open_mask_records(FLAGS.data)
    if not len(records):
        raise ValueError(f"{FLAGS.data} holds no mask record.")
    return records


def score_records(
    records: Any, scorers: Mapping[str, Scorer]
) -> tuple[dict[str, PromptableScores], np.ndarray | None]:
    """Scores every image.

    Returns:
      The scores by scorer, and a contact sheet of some images; None if no image has a true mask.
    """
    count = min(len(records), FLAGS.limit or len(records))
    shown = set(np.linspace(0, count - 1, min(_EXAMPLES, count)).round().astype(int).tolist())
    scores = {name: PromptableScores() for name in scorers}
    pictures: list[np.ndarray] = []
    titles: list[str] = []
    for index in tqdm.trange(count, unit="image"):
        record = records[index]
        image, truth = read_record(record, FLAGS.min_area)
        if not len(truth):
            continue
        best = {name: scorer(image, truth, record["id"]) for name, scorer in scorers.items()}
        for name, found in best.items():
            scores[name].add({mode: masks.iou for mode, masks in found.items()})
        if index in shown:
            add_example(pictures, titles, record["id"], image, truth, best)
    if not pictures:
        return scores, None
    columns = 2 + len(scorers)
    return scores, visualize.contact_sheet(pictures, titles, columns, _CELL)


def add_example(
    pictures: list[np.ndarray],
    titles: list[str],
    image_id: str,
    image: np.ndarray,
    truth: TrueMasks,
    best: Mapping[str, Mapping[str, BestMasks]],
) -> None:
    """Adds a row to the contact sheet: image, truth, and by scorer the best masks of one mode."""
    true_masks = visualize.draw_masks(image, truth.masks)
    drawn = [(image_id, image), (f"{len(truth)} true masks", true_masks)]
    for name, found in best.items():
        mode, masks = next(iter(found.items()))
        title = f"{name}, {mode}: IoU {100 * masks.iou.mean():.1f} %"
        drawn.append((title, visualize.draw_masks(image, masks.masks, truth.masks)))
    for title, picture in drawn:
        titles.append(title)
        pictures.append(visualize.thumbnail(picture, _CELL))


def make_table(document: Mapping[str, Any]) -> str:
    """Returns the readable report."""
    settings = document["settings"]
    lines = [
        "# Masks of points and boxes",
        "",
        f"IoU in percent over true masks of at least {100 * settings['min_area']:g} % of the "
        f"image; grid of {settings['points_per_side']} x {settings['points_per_side']} points.",
        "",
        "| by | mode | mean over masks | mean over images | masks | images |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, result in document["results"].items():
        lines += [
            f"| {name} | {mode} | {100 * score['iou']:.2f} | {100 * score['iou_of_images']:.2f} "
            f"| {score['masks']} | {score['images']} |"
            for mode, score in result["scores"].items()
        ]
    if "superpixels" in document["results"]:
        found = document["results"]["superpixels"]["segments_per_image"]
        lines += ["", f"Superpixels: {found:.0f} segments per image."]
    return "\n".join(lines) + "\n"


def run() -> None:
    """Does it all."""
    if unknown := sorted(set(FLAGS.modes) - set(MODES)):
        raise ValueError(f"--modes: unknown {', '.join(unknown)}; expected {', '.join(MODES)}.")
    if not FLAGS.modes:
        raise ValueError(f"--modes is empty: expected some of {', '.join(MODES)}.")
    if FLAGS.model is None and FLAGS.baseline is None:
        raise ValueError("Give --model, --baseline or both: there is nothing to score.")
    folder = pathlib.Path(FLAGS.output)
    records = open_records()
    scorers: dict[str, ModelScorer | SuperpixelScorer] = {}
    masks_per_point = _MASKS_PER_POINT
    if FLAGS.model is not None:
        scorers["model"] = model = ModelScorer(FLAGS.model)
        masks_per_point = model.masks_per_point
    if FLAGS.baseline == "superpixels":
        scorers["superpixels"] = SuperpixelScorer(masks_per_point * FLAGS.points_per_side**2)
    scores, sheet = score_records(records, scorers)
    if not any(score.totals for score in scores.values()):
        raise ValueError(
            f"{FLAGS.data}: no record has a true mask of at least {FLAGS.min_area:g} of its image."
        )
    document = {
        "data": FLAGS.data,
        "settings": {
            name: FLAGS[name].value
            for name in ("modes", "points_per_side", "min_area", "limit", "seed")
        },
        "results": {
            name: {**scorer.about, "scores": scores[name].compute()}
            for name, scorer in scorers.items()
        },
        "versions": versions(),
    }
    make_folder(folder)
    text, table = json.dumps(document, indent=1) + "\n", make_table(document)
    write_text_whole(folder / "scores.json", text)
    write_text_whole(folder / "scores.md", table)
    if sheet is not None:
        write_whole(folder / "examples.png", Image.fromarray(sheet).save)
    print(table)


def main(_: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # JAX reports every backend that is not there.
    try:
        run()
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
