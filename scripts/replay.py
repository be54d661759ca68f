"""Runs a step again that ended a training run, and says where numbers stop being finite.

python scripts/replay.py --bundle=runs/stage1/replay/step_001234.npz
"""

import pathlib
import sys
import tempfile

from absl import app, flags

from uniovseg_jax.command_line import parse_flags

_BUNDLE = flags.DEFINE_string("bundle", None, "A file that training left under <workdir>/replay.")
flags.mark_flags_as_required(["bundle"])


def main(_: list[str]) -> None:
    """Prints loss, its terms, and the names of what is not finite."""
    from uniovseg_jax.train.replay import replay

    try:
        with tempfile.TemporaryDirectory() as folder:
            found = replay(pathlib.Path(str(_BUNDLE.value)), pathlib.Path(folder))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for name, value in found["metrics"].items():
        print(f"{name:>24} {value:.6g}")
    for name in ("batch", "params", "gradients"):
        bad = found[name]
        print(f"{name} not finite: {', '.join(bad[:20]) if bad else 'none'}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
