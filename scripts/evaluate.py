r"""Scores a model on a benchmark of the paper; docs/benchmarks.md tells which there are.

  python scripts/evaluate.py --config=configs/eval.py:ade20k_150 --model=<dir> \
      --data_dir=<root of all datasets> --output=runs/eval/ade20k_150

Leaves results.json, results.md (every score beside the paper's) and worst.png in the output folder.
Stopped, it goes on where it was when the same command is given again.
Exit code: 0, or 2 with one sentence that says why there is no result.
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, a colon, and the benchmark with its options."
)
_MODEL = flags.DEFINE_string("model", None, "Model directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that all datasets are in.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results; made when needed.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "Score with several processes, all started with the same flags: see scripts/train.py.",
)
flags.mark_flags_as_required(["config", "model", "data_dir", "output"])


def main(argv: list[str]) -> None:
    """Scores and prints one table per part of the benchmark."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; expected only flags.")
    # Threads of numpy's own would fight with those of the images; read when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.processes import join_processes

    try:
        if _DISTRIBUTED.value:
            join_processes(_DISTRIBUTED.value)
        from uniovseg_jax.eval.evaluate import evaluate
        from uniovseg_jax.eval.result_files import make_table

        output = pathlib.Path(str(_OUTPUT.value))
        results = evaluate(_CONFIG.value, str(_MODEL.value), str(_DATA_DIR.value), output)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for document in results:
        print(make_table(document).partition("\nSettings:")[0])


if __name__ == "__main__":
    app.run(main)
