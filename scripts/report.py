r"""Sets results beside the paper's tables, as Markdown and as one page of HTML, with galleries.

  python scripts/report.py --results=runs/eval,runs/matching --output=runs/report
  python scripts/report.py --results=runs/eval --output=runs/report \
      --data_dir=<root of all datasets> --num_images=6 --choose=median \
      --others=SAM=<COCO results>

--results takes results.json files, or folders in which every one at any depth is taken: those of
scripts/evaluate.py and of scripts/matching_accuracy.py. With --data_dir images of every run of
scripts/evaluate.py are predicted once more and shown: the image, its truth, what is predicted, and
for prompts the best masks of --others, lists of COCO results as scripts/score.py reads them.
Leaves report.md, report.html and gallery_<n>.png in the output folder.
Exit code: 0, or 2 with one sentence that says why there is no report.
"""

import pathlib
import sys

from absl import app, flags, logging

from uniovseg_jax.command_line import parse_flags

_RESULTS = flags.DEFINE_list("results", None, "Files or folders of results.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the report.", required=True)
_ALL = flags.DEFINE_bool("all", False, "Show the paper's benchmarks without a result too.")
_DATA_DIR = flags.DEFINE_string("data_dir", "", "Folder of all datasets, for galleries.")
_MODEL = flags.DEFINE_string("model", "", "Model directory, if it is not where it was.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 6, "Images of a gallery.", lower_bound=1)
_CHOOSE = flags.DEFINE_enum(
    "choose", "random", ["random", "worst", "median", "best"], "Which images of a run."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of random images.", lower_bound=0)
_OTHERS = flags.DEFINE_list("others", [], "Other models' masks for prompts: name=file, ....")


def parse_others(pairs: list[str]) -> dict[str, pathlib.Path]:
    """Reads `SAM=sam.json`.

    Raises:
      ValueError: If one is malformed.
    """
    for pair in pairs:
        if not all(pair.partition("=")):
            raise ValueError(f"--others is {pair}; expected name=file.")
    return {name: pathlib.Path(file) for name, _, file in (p.partition("=") for p in pairs)}


def main(_: list[str]) -> None:
    """Writes the report."""
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.eval.gallery import GalleryMaker
    from uniovseg_jax.eval.image_log import read_image_log
    from uniovseg_jax.eval.report import REPORT_HTML, REPORT_MD, write_report
    from uniovseg_jax.eval.report_tables import find_results, make_tables

    try:
        found, others = find_results(_RESULTS.value), parse_others(_OTHERS.value)
        if others and not _DATA_DIR.value:
            raise ValueError("--others is for galleries; add --data_dir.")
        maker = GalleryMaker(
            _DATA_DIR.value,
            _MODEL.value,
            _NUM_IMAGES.value,
            _CHOOSE.value,
            others,
            _SEED.value,
        )
        made = [
            maker.make(document, folder)
            for folder, document in found.items()
            # Means of suites and of names of true masks have no pictures.
            if _DATA_DIR.value and "scores" in document and read_image_log(folder)
        ]
        galleries = [gallery for gallery in made if gallery is not None]
        output = pathlib.Path(str(_OUTPUT.value))
        documents = list(found.values())
        write_report(documents, make_tables(documents, _ALL.value), galleries, output)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print((output / REPORT_MD).read_text(encoding="utf-8"))
    print(f"Written: {output / REPORT_HTML}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
