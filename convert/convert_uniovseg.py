r"""Turns a released Uni-OVSeg stage-1 checkpoint into a model directory, and back.

  python convert/convert_uniovseg.py --checkpoint=stage1.pth --output=models/uniovseg --verify
  python convert/convert_uniovseg.py --checkpoint=masks.safetensors --clip=models/clip --output=...
  python convert/convert_uniovseg.py --fixture=outputs_of_the_authors.npz
  python convert/convert_uniovseg.py --to_torch --model=models/uniovseg --output=stage1.safetensors

Exit code: 0; 1 if --verify or --fixture found the two apart; 2 if nothing could be done.
"""

import dataclasses
import json
import os
import pathlib
import sys

from absl import app, flags

# The script stands beside the package that it belongs to.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

flags.DEFINE_string("checkpoint", None, "File with the published weights.")
flags.DEFINE_string("clip", None, "Model directory whose CLIP goes with the masks.")
flags.DEFINE_enum(
    "input_norm", "ln", ["ln", "gn"], "Norm after the input projections; tensors do not tell."
)
flags.DEFINE_string(
    "merges", None, "bpe_simple_vocab_16e6.txt.gz; default: the one inside open_clip_torch."
)
flags.DEFINE_string("output", None, "Model directory (or --to_torch: file) to write.")
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "How weights are stored.")
flags.DEFINE_bool("verify", False, "Compare with the float64 form; write parity.md.")
flags.DEFINE_list("sizes", ["320"], "Input sides to verify at.")
flags.DEFINE_string("image", None, "Photograph to verify with.")
flags.DEFINE_string("fixture", None, "Stored inputs and outputs to run and compare.")
flags.DEFINE_bool("to_torch", False, "The way back: --model to a checkpoint file.")
flags.DEFINE_string("model", None, "Model directory to turn back.")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Converts; a mistake in the flags or the files ends it with plain sentences."""
    from convert.script import run_script

    run_script(argv, _work)


def _work() -> int:
    chosen = [flag for flag in (FLAGS.fixture, FLAGS.checkpoint, FLAGS.model) if flag]
    if len(chosen) != 1 or bool(FLAGS.model) != FLAGS.to_torch:
        raise ValueError("Give one of --checkpoint, --fixture, or --to_torch with --model.")
    if FLAGS.fixture:
        return _compare()
    if not FLAGS.output:
        raise ValueError("--output is missing; expected where to write.")
    return _to_torch() if FLAGS.to_torch else _convert()


def _compare() -> int:
    from convert.fixture import BOUND, compare_fixture, read_fixture

    errors = compare_fixture(read_fixture(FLAGS.fixture))
    passed = all(error <= BOUND for error in errors.values())
    print(json.dumps({"max_abs_error": errors, "passed": passed}))
    return 0 if passed else 1


def _to_torch() -> int:
    from convert.openclip_models import has_conv_mlp
    from convert.script import write_published
    from convert.uniovseg_rules import MASK_RULES, uniovseg_rules
    from uniovseg_jax.weights.store import flatten_variables, load_pretrained

    model = load_pretrained(FLAGS.model)
    if "masks" not in model.parts:
        raise ValueError(f"{FLAGS.model} holds no masks; expected a model with that part.")
    rules = MASK_RULES
    if "clip" in model.parts:
        rules = uniovseg_rules(has_conv_mlp(model.config.clip))
    flat = flatten_variables(model.variables)
    if "adapter" in model.parts:
        print("The published layout has no place for the adapter: it is left out.")
    flat = {path: x for path, x in flat.items() if not path.startswith("params/adapter/")}
    return write_published(FLAGS.output, flat, rules, "the released")


def _convert() -> int:
    from convert import openclip, uniovseg
    from convert.checkpoints import read_checkpoint
    from convert.openclip_torch import import_open_clip
    from convert.script import report_parity
    from convert.verification import Verification, parse_sizes
    from convert.verify_uniovseg import verify_uniovseg
    from uniovseg_jax.weights.store import (
        check_replaceable,
        flatten_variables,
        load_pretrained,
        save_pretrained,
    )

    name = os.path.basename(FLAGS.checkpoint)
    check = None
    if FLAGS.verify:
        check = Verification(name, parse_sizes(FLAGS.sizes), FLAGS.image)
    output = pathlib.Path(FLAGS.output)
    check_replaceable(output)
    state = read_checkpoint(FLAGS.checkpoint)
    if FLAGS.verify and uniovseg.clip_state(state):
        import_open_clip()  # What is quickly wrong is found before anything is done.
    converted = uniovseg.convert_state(state, FLAGS.input_norm)
    tokenizer = None
    if FLAGS.clip:
        clip = load_pretrained(FLAGS.clip)
        converted, tokenizer = uniovseg.with_clip(converted, clip), clip.tokenizer
    elif "clip" in converted.parts:
        tokenizer = openclip.clip_tokenizer(FLAGS.merges, converted.config.clip)
    metadata = {"source": name, "counts": {k: list(v) for k, v in converted.counts.items()}}
    save_pretrained(
        output,
        converted.config,
        converted.variables,
        tokenizer,
        converted.parts,
        FLAGS.dtype,
        metadata,
    )
    for prefix, (tensors, numbers) in converted.counts.items():
        print(f"{prefix}: {tensors} tensors, {numbers:,} numbers")
    print(f"Written: {output}, parts {', '.join(converted.parts)}")
    parity = None
    if check is not None:
        # What was stored, as a user will read it.
        stored = flatten_variables(load_pretrained(output).variables)
        converted = dataclasses.replace(converted, flat=stored)
        parity = verify_uniovseg(converted, check, state, tokenizer)
        parity.write(output)
    return report_parity(parity)


if __name__ == "__main__":
    from convert.script import parse_flags

    app.run(main, flags_parser=parse_flags)
