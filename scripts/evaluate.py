r"""Scores a model on a benchmark of the paper; docs/benchmarks.md tells which there are.

  python scripts/evaluate.py --config=configs/eval.py:ade20k_150 --model=<dir> \
      --data_dir=<root of all datasets>

Leaves results.json, results.md (every score beside the paper's) and worst.png in the output folder;
of a set of several parts, the same in a folder for each, and the means in the output folder itself.
Stopped, it goes on where it was when the same command is given again.
Exit code: 0, 130 after Ctrl-C, or 2 with one sentence that says why there is no result.
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, a colon, and the benchmark with its options."
)
_MODEL = flags.DEFINE_string("model", None, "Model directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that all datasets are in.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the results; by default runs/eval/<benchmark>-<protocol>-<model>."
)
_DISTRIBUTED = flags.DEFINE_string(
    "distributed",
    None,
    "Score with several processes, all started with the same flags: see scripts/train.py.",
)
flags.mark_flags_as_required(["config", "model", "data_dir"])


def main(_: list[str]) -> None:
    """Scores and prints one table per part of the benchmark."""
    goes_on_when_repeated()
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.processes import join_processes

    try:
        if _DISTRIBUTED.value:
            join_processes(_DISTRIBUTED.value)
        from uniovseg_jax.eval.evaluate import evaluate
        from uniovseg_jax.eval.from_config import default_output
        from uniovseg_jax.eval.result_files import RESULTS_FILE, make_table, without_settings

        config = _CONFIG.value
        model = str(_MODEL.value)
        output = pathlib.Path(_OUTPUT.value or default_output(config, model))
        results = evaluate(config, model, str(_DATA_DIR.value), output)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    for document in results:
        print(without_settings(make_table(document)))
    if results:
        print(f"Written: {output / RESULTS_FILE}")


if __name__ == "__main__":
    # Threads of numpy's own would fight with those of the images. The variable is read when numpy
    # is imported, which the configuration does.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app.run(main, flags_parser=parse_flags)
