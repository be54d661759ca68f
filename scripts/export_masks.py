r"""Writes the true masks of a benchmark as COCO JSON, with a point and a box to ask a model by.

  python scripts/export_masks.py --benchmark=timberseg --data_dir=<root of all datasets> \
      --output=runs/masks

Leaves <benchmark>.json in the output folder, for every part of a suite, with the images that
scripts/evaluate.py scores: of large sets a sample, which --seed decides as config.prompts.seed
does. Each annotation has an id, its mask as run lengths, its box (bbox: x, y, width, height) and
center_point (x, y), the pixel farthest from all outside the mask. Ask any model, such as SAM, by
one of them, write its answers as a list of {"image_id", "segmentation" (run lengths), "score",
"prompt": <id of the annotation>}, and score them: scripts/score.py --task=promptable
--gt_json=<this file> --pred_json=<answers> --mode=center (or box).
Exit code: 0, or 2 with one sentence that says why there is no file.
"""

import sys

from absl import app, flags

from uniovseg_jax.command_line import parse_flags
from uniovseg_jax.eval.export_masks import export_masks

_BENCHMARK = flags.DEFINE_string("benchmark", None, "Name of a benchmark with masks.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that all datasets are in.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the files; made when needed.")
_SPLIT = flags.DEFINE_string("split", "", "Empty for the usual one.")
_LIMIT = flags.DEFINE_integer("limit", 0, "Only the first images; 0 for all.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the sample of a large set.", lower_bound=0)
flags.mark_flags_as_required(["benchmark", "data_dir", "output"])


def main(_: list[str]) -> int:
    """Writes the files and prints their paths."""
    try:
        written = export_masks(
            str(_BENCHMARK.value),
            str(_DATA_DIR.value),
            str(_OUTPUT.value),
            _SPLIT.value,
            _LIMIT.value,
            _SEED.value,
        )
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
