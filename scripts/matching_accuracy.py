r"""Names the true masks of a benchmark by CLIP alone, at several input sizes: the paper's table 4b.

  python scripts/matching_accuracy.py --benchmark=ade20k_150 --model=<dir> \
      --data_dir=<root of all datasets> --output=runs/matching/ade20k_150

The model needs only the part clip, as convert/convert_openclip.py writes it: this is the first
number of the paper to check converted weights by. docs/benchmarks.md tells which benchmarks there
are; all with classes will do.

Leaves results.json and results.md (every number beside the paper's) in the output folder. Stopped,
it goes on where it was when the same command is given again.
Exit code: 0, 130 after Ctrl-C, or 2 with one sentence that says why there is no result.
"""

import os
import pathlib
import sys

from absl import app, flags, logging

from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags

_SIZES = "768,896,1024,768+896,896+1024,768+896+1024"

_BENCHMARK = flags.DEFINE_string("benchmark", None, "Name of a benchmark with classes.")
_MODEL = flags.DEFINE_string("model", None, "Model directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that all datasets are in.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results; made when needed.")
_SPLIT = flags.DEFINE_string("split", "", "Empty for the usual one.")
_LIMIT = flags.DEFINE_integer("limit", 0, "Only the first images; 0 for all.", lower_bound=0)
_SIZE_SETS = flags.DEFINE_list("sizes", _SIZES, "Long sides of the input; + averages over several.")
_TRUTH = flags.DEFINE_enum(
    "truth",
    "",
    ["", "panoptic", "semantic", "instance"],
    "What masks are: segments, all pixels of a class, or objects; by default the first there is.",
)
_AVERAGE = flags.DEFINE_enum("average", "cosines", ["cosines", "probs"], "What is averaged.")
_POOLING = flags.DEFINE_enum(
    "pooling",
    "",
    ["", "binary", "binary_or_soft", "area"],
    "How masks weigh CLIP's pixels; by default as in the model's configuration.",
)
_SYNONYMS = flags.DEFINE_string("synonyms", "", "File with a line `id:name1,name2` per class.")
_TEMPLATES = flags.DEFINE_string("templates", "vild14", "Prompts.")
_TEXT_CACHE = flags.DEFINE_string("text_cache", "", "Folder in which vectors of names are kept.")
_THREADS = flags.DEFINE_integer("threads_per_device", 2, "Images at a time.", lower_bound=1)
flags.mark_flags_as_required(["benchmark", "model", "data_dir", "output"])


def parse_sizes(sets: list[str]) -> tuple[tuple[int, ...], ...]:
    """Reads `768`, `896+1024`.

    Raises:
      ValueError: If one is malformed.
    """
    try:
        return tuple(tuple(int(size) for size in row.split("+")) for row in sets)
    except ValueError:
        raise ValueError(
            f"--sizes is {','.join(sets)}; expected numbers as in 768,896+1024."
        ) from None


def main(_: list[str]) -> None:
    """Measures and prints the table."""
    # Threads of numpy's own would fight with those of the images; read when numpy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    goes_on_when_repeated()
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.eval.naming.matching_benchmark import measure_matching
    from uniovseg_jax.eval.naming.matching_scorer import MatchingSettings
    from uniovseg_jax.eval.naming.matching_table import make_matching_table
    from uniovseg_jax.eval.result_files import without_settings

    try:
        settings = MatchingSettings(
            benchmark=str(_BENCHMARK.value),
            split=_SPLIT.value,
            limit=_LIMIT.value,
            size_sets=parse_sizes(_SIZE_SETS.value),
            truth=_TRUTH.value,
            average=_AVERAGE.value,
            pooling=_POOLING.value,
            synonyms=_SYNONYMS.value,
            templates=_TEMPLATES.value,
        )
        document = measure_matching(
            settings,
            str(_MODEL.value),
            str(_DATA_DIR.value),
            pathlib.Path(str(_OUTPUT.value)),
            _TEXT_CACHE.value,
            _THREADS.value,
        )
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(without_settings(make_matching_table(document)))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
