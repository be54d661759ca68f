r"""Scores the predictions of any model, as files in the usual forms, against the truth.

  python scripts/score.py --task=panoptic --gt_json=<json> --gt_dir=<dir> \
      --pred_json=<json> --pred_dir=<dir>
  python scripts/score.py --task=semantic --gt_dir=<dir> --pred_dir=<dir> \
      --num_classes=150 --ignore=255
  python scripts/score.py --task=instance --gt_json=<json> --pred_json=<json>
  python scripts/score.py --task=promptable --gt_json=<json> --pred_json=<json> --mode=center

panoptic: COCO's panoptic form for both, PNG of R + 256 G + 65536 B and JSON with the data set's own
  category ids; folders are by default the JSON's path without .json.
semantic: label maps, PNG or TIFF of 8 or 16 bits, with names that are equal up to the extension, or
  up to --gt_suffix and --pred_suffix, which leave other files out: --gt_suffix=_labelTrainIds.png.
  --ignore lists labels that are not scored; a prediction of one is wrong where the truth is scored.
instance: a COCO instance file, and a list of COCO results whose segmentation is run lengths.
promptable: the same, where categories play no part. A result may say with "prompt" which annotation
  it answers, by its id, and with "score" how good it is thought to be. Modes:
    grid_any            of all masks of an image the best one for every true mask
    grid_inside         the best of those whose point, "point_coords" [[x, y]] as SAM's generator
                        writes it, lies inside the true mask, or else is nearest to its centre
    center, random      the best of those that answer the true mask's own point, and beside it, as
                        <mode>_ranked, the one of the highest score if all have a score
    box                 the best of those that answer its box

Prints a table and, as its last line, one JSON object: by group the scores in percent. No model is
loaded. Exit code: 0; 2 if the files cannot be scored or hold nothing to score.
"""

import io
import json
import sys

from absl import app, flags

from uniovseg_jax.command_line import parse_flags
from uniovseg_jax.eval.files.score_files import FileScores, score_panoptic, score_semantic
from uniovseg_jax.eval.files.score_objects import score_instances
from uniovseg_jax.eval.files.score_prompts import score_prompted
from uniovseg_jax.eval.metrics.promptable import MODES

# By task: flags that it needs, flags that it knows besides.
_FLAGS = {
    "panoptic": (("gt_json", "pred_json"), ("gt_dir", "pred_dir")),
    "semantic": (
        ("gt_dir", "pred_dir", "num_classes"),
        ("ignore", "gt_suffix", "pred_suffix"),
    ),
    "instance": (("gt_json", "pred_json"), ()),
    "promptable": (("gt_json", "pred_json", "mode"), ("min_area",)),
}

flags.DEFINE_enum("task", None, list(_FLAGS), "What the files hold.", required=True)
flags.DEFINE_string("gt_json", None, "Truth: COCO file.")
flags.DEFINE_string("gt_dir", None, "Truth: folder of maps.")
flags.DEFINE_string("pred_json", None, "Prediction: COCO file.")
flags.DEFINE_string("pred_dir", None, "Prediction: folder of maps.")
flags.DEFINE_integer("num_classes", None, "Labels are 0 up to one less.", lower_bound=1)
flags.DEFINE_multi_string("ignore", None, "Labels that are not scored; may be given repeatedly.")
flags.DEFINE_string("gt_suffix", None, "Truth: what the names of maps end with.")
flags.DEFINE_string("pred_suffix", None, "Prediction: what the names of maps end with.")
flags.DEFINE_enum("mode", None, MODES, "What the prompts were.")
flags.DEFINE_float(
    "min_area", None, "Least area of a true mask, as a share of its image.", 0.0, 1.0
)
FLAGS = flags.FLAGS


def check_flags() -> None:
    """Raises ValueError if flags do not go with the task."""
    needed, known = _FLAGS[FLAGS.task]
    names = {name for row in _FLAGS.values() for part in row for name in part}
    given = {name for name in names if FLAGS[name].value is not None}
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"--task={FLAGS.task} needs --{', --'.join(missing)}.")
    if empty := sorted(name for name in given if FLAGS[name].value in ("", [""])):
        raise ValueError(f"--{empty[0]} is empty.")
    if unused := sorted(given - {*needed, *known}):
        raise ValueError(f"--task={FLAGS.task} has no use for --{', --'.join(unused)}.")


def score() -> FileScores:
    """Does what the flags say."""
    check_flags()
    if FLAGS.task == "panoptic":
        return score_panoptic(FLAGS.gt_json, FLAGS.gt_dir, FLAGS.pred_json, FLAGS.pred_dir)
    if FLAGS.task == "instance":
        return score_instances(FLAGS.gt_json, FLAGS.pred_json)
    if FLAGS.task == "promptable":
        return score_prompted(FLAGS.gt_json, FLAGS.pred_json, FLAGS.mode, FLAGS.min_area or 0.0)
    labels = ",".join(FLAGS.ignore or [])
    try:
        ignored = [int(label) for label in labels.split(",") if label]
    except ValueError:
        raise ValueError(f"--ignore takes whole numbers, got {labels}.") from None
    suffixes = FLAGS.gt_suffix or "", FLAGS.pred_suffix or ""
    return score_semantic(FLAGS.gt_dir, FLAGS.pred_dir, FLAGS.num_classes, ignored, *suffixes)


def main(_: list[str]) -> int:
    try:
        scored = score()
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    # A terminal may not have every character of a class's name.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for note in scored.notes:
        print(note, file=sys.stderr)
    print(scored.table)
    print(json.dumps(scored.result, allow_nan=False))
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
