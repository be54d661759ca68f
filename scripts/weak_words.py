"""The experiment of docs/camvid.md: photographs of which some give masks and others only words.

python scripts/weak_words.py cut --images=camvid/images/train --labels=camvid/masks/train \
    --output=runs/words/data
python scripts/weak_words.py ceiling --pairs=runs/words/stage2/pairs \
    --model=runs/words/stage1/model --labels=runs/words/data/words/labels \
    --output=runs/words/ceiling
python scripts/weak_words.py cut --images=camvid/images/val --labels=camvid/masks/val \
    --all_as=val --output=runs/words/val
python scripts/weak_words.py prior --known=camvid/masks/train --labels=camvid/masks/val
"""

import json
import pathlib
import sys
from typing import Any

from absl import app, flags, logging

from uniovseg_jax.command_line import parse_flags_and_words

# Of CamVid, in the order of its labels 0 to 10; 11 is void.
_NAMES = flags.DEFINE_list(
    "names",
    "sky,building,pole,road,pavement,tree,sign symbol,fence,car,pedestrian,bicyclist",
    "Names of the labels 0, 1, ...; other labels are void.",
)
_IMAGES = flags.DEFINE_string("images", "", "Folder of photographs.")
_LABELS = flags.DEFINE_string("labels", "", "Folder of label maps with the same names.")
_KNOWN = flags.DEFINE_string("known", "", "Folder of label maps that the prior is made of.")
_OUTPUT = flags.DEFINE_string("output", "", "Folder to write.")
_PAIRS = flags.DEFINE_string("pairs", "", "Folder of a pair store of all vectors.")
_MODEL = flags.DEFINE_string("model", "", "Model directory.")
_ALL_AS = flags.DEFINE_string("all_as", None, "A kind that all photographs are of.")


def main(argv: list[str]) -> None:
    """Does one step; a mistake ends it with one sentence."""
    steps = {"cut": cut, "ceiling": ceiling, "prior": prior}
    if len(argv) != 2 or argv[1] not in steps:
        raise app.UsageError(f"Expected one of {', '.join(steps)}.")
    logging.set_verbosity(logging.WARNING)
    try:
        steps[argv[1]]()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def cut() -> None:
    """Cuts photographs into parts by kind."""
    from uniovseg_jax.weak_words.cut import CutOptions, cut_drives

    options = CutOptions(_NAMES.value, all_as=_ALL_AS.value)
    counts = cut_drives(_path(_IMAGES), _path(_LABELS), _path(_OUTPUT), options)
    print(", ".join(f"{count} quarters for {kind}" for kind, count in counts.items()))


def ceiling() -> None:
    """Writes what an adapter would be trained on if every region's true name were known."""
    from uniovseg_jax.alignment.store import PairStore
    from uniovseg_jax.eval.oracle import write_ceiling
    from uniovseg_jax.text_encoder import TextEncoder
    from uniovseg_jax.weak_words.judge import read_oracle
    from uniovseg_jax.weights.store import load_pretrained

    embed = TextEncoder(load_pretrained(str(_path(_MODEL)))).embed
    oracle = read_oracle(_path(_LABELS), _NAMES.value)
    store, accuracy = write_ceiling(PairStore(_path(_PAIRS)), oracle, embed, _path(_OUTPUT))
    print(
        f"{store.manifest['targets']} regions have a true name; of the pairs "
        f"{accuracy['strict']:.1f} % are right, of those trained on "
        f"{accuracy['confident_strict']:.1f} %."
    )


def prior() -> None:
    """Prints the scores of the most frequent label of every pixel."""
    from uniovseg_jax.weak_words.judge import score_position_prior

    _print(score_position_prior(_path(_KNOWN), _path(_LABELS), len(_NAMES.value)))


def _path(flag: Any) -> pathlib.Path:
    if not flag.value:
        raise ValueError(f"--{flag.name} is empty; this step needs it.")
    return pathlib.Path(flag.value)


def _print(scores: dict[str, Any]) -> None:
    iou = {
        name: round(100 * float(value), 1)
        for name, value in zip(_NAMES.value, scores["iou"], strict=True)
    }
    print(f"mIoU {100 * scores['miou']:.1f}, pixel accuracy {100 * scores['pixel_accuracy']:.1f}")
    print(json.dumps(iou))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags_and_words)
