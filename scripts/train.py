"""Trains one phase.

python scripts/train.py --config=configs/tinyscenes.py:stage1 --workdir=runs/stage1
"""

import os
import sys

from absl import app, flags
from ml_collections import config_flags

from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, a colon, and the phase with its options."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that the run writes.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "Train with several processes, all started with the same configuration and workdir: 'auto' "
    "where JAX can find out (TPU pods, Slurm, Open MPI), or <host>:<port> of the first process, "
    "the number of processes, and the number of this one, separated by commas.",
)
flags.mark_flags_as_required(["config", "workdir"])


def main(_: list[str]) -> None:
    """Runs the training and prints one line at the end."""
    goes_on_when_repeated()
    # Threads of numpy's own would fight with those of JAX for the same few cores. The variable is
    # read when numpy is imported, just below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from uniovseg_jax.processes import join_processes

    try:
        # Before anything else asks JAX for devices.
        if _DISTRIBUTED.value:
            join_processes(_DISTRIBUTED.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    from uniovseg_jax.train.interruption import Interrupted
    from uniovseg_jax.train.loop import train

    try:
        final = train(_CONFIG.value, str(_WORKDIR.value))
    except Interrupted:
        print(f"Saved to {_WORKDIR.value}; the same command goes on from there.")
        return
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in final["metrics"].items())
    print(f"Done after {final['step']} steps: {numbers}. Model: {_WORKDIR.value}/model")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
