"""Writes a model directory with float16 tensors: half the size, for shipping.

python scripts/compress_model.py --model=runs/clip/model --output=<directory>
"""

import sys

from absl import app, flags

from uniovseg_jax.command_line import parse_flags

_MODEL = flags.DEFINE_string("model", None, "Model directory to read.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Model directory to write.", required=True)
_NOTE = flags.DEFINE_string("made_with", "", "How the model was made; kept in its metadata.")


def main(_: list[str]) -> None:
    """Reads, rounds and writes; a mistake in the flags ends it with one sentence."""
    from uniovseg_jax.versions import versions
    from uniovseg_jax.weights.store import load_pretrained, params_sha256, save_pretrained

    try:
        model = load_pretrained(_MODEL.value)
        metadata = {
            **model.metadata,
            "made_with": _NOTE.value,
            "versions": versions(),
            "float32_sha256": params_sha256(model.variables),
        }
        save_pretrained(
            _OUTPUT.value,
            model.config,
            model.variables,
            model.tokenizer,
            model.parts,
            "float16",
            metadata,
        )
        digest = params_sha256(load_pretrained(_OUTPUT.value).variables)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"Written: {_OUTPUT.value}, params_sha256 {digest}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
