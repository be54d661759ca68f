"""Shows the whole idea on tinyscenes and writes a report.

python scripts/demo.py --output=runs/demo        stage 2 live from the shipped CLIP and stage 1
python scripts/demo.py --output=runs/demo --words="grass,red ball"
python scripts/demo.py --output=runs/tinyscenes --from_nothing --seed=2
python scripts/demo.py --output=/tmp/demo --from_nothing --tiny       every part, about a minute
"""

import os
import pathlib
import shlex
import sys

from absl import app, flags, logging

from uniovseg_jax.command_line import goes_on_when_repeated, load_config_file, parse_flags

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_ASSETS = _ROOT / "uniovseg_jax" / "assets"

_OUTPUT = flags.DEFINE_string("output", "runs/demo", "Folder for the report and its parts.")
_DATA = flags.DEFINE_string(
    "data_dir", None, "Folder of rendered worlds; default: runs/data/tinyscenes, tiny: the output."
)
_SEED = flags.DEFINE_integer("seed", 0, "World and training seed.", lower_bound=0)
_WORDS = flags.DEFINE_string(
    "words", "", 'What to segment the scenes with, such as "grass,red ball"; default: all names.'
)
_FROM_NOTHING = flags.DEFINE_bool("from_nothing", False, "Train CLIP and stage 1 as well.")
_TINY = flags.DEFINE_bool("tiny", False, "A handful of scenes and steps.")
_CLIP = flags.DEFINE_string(
    "clip", str(_ASSETS / "tinyscenes_clip"), "Model directory of the CLIP."
)
_STAGE1 = flags.DEFINE_string(
    "stage1", str(_ASSETS / "tinyscenes_stage1"), "Model directory that stage 2 starts from."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["val", "test"], "Scored split: val is for choosing.")
_PRESET = flags.DEFINE_string("preset", "nano", "Model size; other than nano only from nothing.")


def main(_: list[str]) -> None:
    """Runs the demo; a mistake in the flags ends it with one sentence."""
    goes_on_when_repeated()
    # numpy's products here are small, and threads of its own would fight with those of JAX for the
    # same few cores (seen: several times slower on two). Read when numpy is imported, just below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What the demo does is printed part by part; libraries need only warn.
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.demo.run import DemoOptions, run_demo
    from uniovseg_jax.train.interruption import Interrupted

    output = pathlib.Path(_OUTPUT.value)
    default_data = output / "data" if _TINY.value else pathlib.Path("runs/data/tinyscenes")
    options = DemoOptions(
        output=output,
        data_dir=pathlib.Path(_DATA.value) if _DATA.value else default_data,
        seed=_SEED.value,
        words=_WORDS.value,
        from_nothing=_FROM_NOTHING.value,
        tiny=_TINY.value,
        clip=_CLIP.value,
        stage1=_STAGE1.value,
        split=_SPLIT.value,
        preset=_PRESET.value,
        command=shlex.join(["python", *sys.argv]),
    )
    get_config = load_config_file(_ROOT / "configs" / "tinyscenes.py").get_config
    try:
        run_demo(options, get_config)
    except Interrupted:
        print("Saved; the same command goes on from there.")
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
