"""Runs the ablation of mask-text alignment over worlds and prints its tables.

python scripts/ablate.py --config=configs/ablation.py --seeds=1,2,3 \
    --models='runs/tinyscenes/seed{seed}/stage1/model' --output=runs/ablation

What is done is not done again: the same command goes on where it was ended.
"""

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from uniovseg_jax.command_line import goes_on_when_repeated, load_config_file, parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration, see configs/ablation.py.")
_SEEDS = flags.DEFINE_list("seeds", ["0"], "Worlds.")
_MODELS = flags.DEFINE_string(
    "models", None, "Stage-1 model directory; {seed} stands for the world.", required=True
)
_OUTPUT = flags.DEFINE_string("output", "runs/ablation", "Folder of what is made.")
_DATA = flags.DEFINE_string("data_dir", "runs/data/tinyscenes", "Folder of rendered worlds.")
flags.mark_flags_as_required(["config"])

_TINYSCENES = pathlib.Path(__file__).resolve().parent.parent / "configs" / "tinyscenes.py"


def main(_: list[str]) -> None:
    """Runs world after world; a mistake ends it with one sentence."""
    goes_on_when_repeated()
    from uniovseg_jax.ablation.run import Ablation, run_ablation
    from uniovseg_jax.ablation.table import format_tables
    from uniovseg_jax.train.interruption import Interrupted

    logging.set_verbosity(logging.WARNING)  # Checkpoints tell all about themselves.
    output = pathlib.Path(_OUTPUT.value)
    get_config = load_config_file(_TINYSCENES).get_config
    reports = []
    try:
        for seed in _seeds():
            model = _MODELS.value.replace("{seed}", str(seed))
            data_dir = pathlib.Path(_DATA.value)
            ablation = Ablation(_CONFIG.value, seed, model, output, data_dir, get_config)
            reports.append(run_ablation(ablation))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except Interrupted:
        print("Interrupted; the same command goes on.")
        return
    tables = format_tables(reports)
    (output / "tables.md").write_text(tables)
    print(tables)


def _seeds() -> list[int]:
    if not all(seed.isdecimal() for seed in _SEEDS.value):
        raise ValueError(f"--seeds is {','.join(_SEEDS.value)}; expected numbers, as in 1,2,3.")
    return [int(seed) for seed in _SEEDS.value]


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
