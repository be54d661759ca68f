r"""Writes a model directory with random weights, to measure time and memory at any size.

python convert/random_model.py --preset=released --output=models/random
"""

import pathlib
import sys

from absl import app, flags

# The script stands beside the package that it belongs to.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

flags.DEFINE_string("preset", "released", "Sizes of the model.")
flags.DEFINE_list("parts", ["clip", "masks"], "What it holds: clip, masks, adapter.")
flags.DEFINE_integer("seed", 0, "Of the weights.")
flags.DEFINE_string("output", None, "Model directory to write.", required=True)
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Writes; a mistake in the flags ends it with a plain sentence."""
    from convert.script import run_script

    run_script(argv, _work)


def _work() -> int:
    from flax import traverse_util

    from convert.openclip import clip_tokenizer
    from convert.random_weights import random_variables
    from uniovseg_jax.models.presets import get_preset
    from uniovseg_jax.models.uniovseg import abstract_variables
    from uniovseg_jax.weights.store import save_pretrained

    config = get_preset(FLAGS.preset)
    tokenizer = clip_tokenizer(None, config.clip) if "clip" in FLAGS.parts else None
    flat = random_variables(abstract_variables(config, FLAGS.parts), FLAGS.seed)
    variables = traverse_util.unflatten_dict(flat, sep="/")
    metadata = {"source": f"random weights of seed {FLAGS.seed}"}
    save_pretrained(FLAGS.output, config, variables, tokenizer, FLAGS.parts, metadata=metadata)
    print(f"Written: {FLAGS.output}, {sum(x.size for x in flat.values()):,} numbers.")
    return 0


if __name__ == "__main__":
    from convert.script import parse_flags

    app.run(main, flags_parser=parse_flags)
