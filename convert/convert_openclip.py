r"""Turns an OpenCLIP ConvNeXt checkpoint into a model directory, and back.

  python convert/convert_openclip.py --checkpoint=open_clip_model.safetensors \
      --model_name=convnext_large_d_320 --output=models/clip --verify
  python convert/convert_openclip.py --checkpoint=hf-hub:laion/<repository> --output=models/clip
  python convert/convert_openclip.py --to_torch --model=models/clip --output=clip.safetensors

Exit code: 0; 1 if --verify found the two apart; 2 if nothing could be done.
"""

import os
import pathlib
import sys

from absl import app, flags

# The script stands beside the package that it belongs to.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

_HUB = "hf-hub:"

flags.DEFINE_string(
    "checkpoint", None, f"File with the published weights, or {_HUB}<owner>/<repository>."
)
flags.DEFINE_string("model_name", None, "OpenCLIP's name of the model.")
flags.DEFINE_string("model_config", None, "OpenCLIP's JSON, in place of a name.")
flags.DEFINE_string(
    "merges", None, "bpe_simple_vocab_16e6.txt.gz; default: the one inside open_clip_torch."
)
flags.DEFINE_string("output", None, "Model directory to write.", required=True)
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "How weights are stored.")
flags.DEFINE_bool("verify", False, "Compare with OpenCLIP in PyTorch; write parity.md.")
flags.DEFINE_list("sizes", [], "Input sides to verify at; default: the model's own.")
flags.DEFINE_string("image", None, "Photograph to verify with.")
flags.DEFINE_bool("to_torch", False, "The way back: --model to a checkpoint file.")
flags.DEFINE_string("model", None, "Model directory to turn back.")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Converts; a mistake in the flags or the files ends it with plain sentences."""
    from convert.script import run_script

    run_script(argv, _to_torch if FLAGS.to_torch else _convert)


def _to_torch() -> int:
    from convert.openclip_models import has_conv_mlp
    from convert.openclip_rules import openclip_rules
    from convert.script import write_published
    from uniovseg_jax.weights.store import flatten_variables, load_pretrained

    if not FLAGS.model or FLAGS.checkpoint:
        raise ValueError("--to_torch turns --model back; expected that flag and no --checkpoint.")
    model = load_pretrained(FLAGS.model)
    if "clip" not in model.parts:
        raise ValueError(f"{FLAGS.model} holds no CLIP; expected a model with the part clip.")
    flat = flatten_variables({"params": {"clip": model.variables["params"]["clip"]}})
    rules = openclip_rules(has_conv_mlp(model.config.clip))
    return write_published(FLAGS.output, flat, rules, "OpenCLIP's")


def _convert() -> int:
    from convert import openclip
    from convert.openclip_models import read_config
    from convert.script import report_parity
    from convert.verification import Verification, parse_sizes

    if not FLAGS.checkpoint:
        raise ValueError(
            "--checkpoint is missing; expected a file, or hf-hub:<owner>/<repository>."
        )
    checkpoint, model_config = FLAGS.checkpoint, FLAGS.model_config
    if checkpoint.startswith(_HUB):
        checkpoint, hub_config = openclip.download(checkpoint.removeprefix(_HUB))
        model_config = model_config or (None if FLAGS.model_name else hub_config)
    config = read_config(FLAGS.model_name, model_config)
    tokenizer = openclip.clip_tokenizer(FLAGS.merges, config)
    sizes = parse_sizes(FLAGS.sizes) or [config.image_size]
    name = FLAGS.model_name or os.path.basename(str(model_config))
    title = f"{os.path.basename(checkpoint)} as {name}"
    parity = openclip.convert_openclip(
        checkpoint,
        config,
        tokenizer,
        pathlib.Path(FLAGS.output),
        dtype=FLAGS.dtype,
        verify=Verification(title, sizes, FLAGS.image) if FLAGS.verify else None,
    )
    print(f"Written: {FLAGS.output}")
    return report_parity(parity)


if __name__ == "__main__":
    from convert.script import parse_flags

    app.run(main, flags_parser=parse_flags)
