r"""Writes a checkpoint of random weights, made by OpenCLIP, to try a conversion with.

python convert/random_openclip.py --model_name=convnext_base_w --output=random.safetensors
"""

import pathlib
import sys

from absl import app, flags

# The script stands beside the package that it belongs to.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

flags.DEFINE_string("model_name", None, "OpenCLIP's name of the model.")
flags.DEFINE_string("model_config", None, "OpenCLIP's JSON, in place of a name.")
flags.DEFINE_enum("dtype", "float32", ["float32", "float16", "bfloat16"], "Of the tensors.")
flags.DEFINE_integer("seed", 0, "Of the weights.")
flags.DEFINE_string("output", None, ".safetensors, or .pt for a file of torch.save.", required=True)
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Writes; a mistake in the flags ends it with a plain sentence."""
    from convert.script import run_script

    run_script(argv, _work)


def _work() -> int:
    from convert.openclip_models import read_config
    from convert.openclip_torch import build_openclip
    from convert.random_weights import randomise
    from uniovseg_jax.files import write_whole

    path = pathlib.Path(FLAGS.output)
    if path.exists():
        raise ValueError(f"{path} exists; it is left as it is.")
    model = build_openclip(read_config(FLAGS.model_name, FLAGS.model_config))
    randomise(model, FLAGS.seed)
    import torch
    from safetensors.torch import save_file

    dtype = getattr(torch, FLAGS.dtype)
    state = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save = save_file if path.suffix == ".safetensors" else torch.save
    write_whole(path, lambda temporary: save(state, temporary))
    print(f"Written: {path}, {len(state)} tensors.")
    return 0


if __name__ == "__main__":
    from convert.script import parse_flags

    app.run(main, flags_parser=parse_flags)
