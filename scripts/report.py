r"""Sets results beside the paper's tables, as Markdown and as one page of HTML, with galleries.

  python scripts/report.py --results=runs/eval,runs/matching --output=runs/report
  python scripts/report.py --results=runs/eval --output=runs/report --num_images=6 \
      --choose=median --others=SAM:ishape/fence=<COCO results>,SAM:trashcan=<COCO results>

--results takes results.json files, or folders in which every one at any depth is taken: those of
scripts/evaluate.py and of scripts/matching_accuracy.py. With --num_images so many images of every
run of scripts/evaluate.py are predicted once more and shown: the image, its truth, what is
predicted, and for prompts the best masks of --others, lists of COCO results as scripts/score.py
reads them, each of one benchmark. Data and models are looked for where they were.
Leaves report.md, report.html and gallery_<n>.png in the output folder; the tables come first.
Exit code: 0, also where runs could not be drawn, which is told; or 2 with one sentence that says
why there is no report.
"""

import pathlib
import sys

from absl import app, flags, logging

from uniovseg_jax.command_line import load_config_file, parse_flags

_RESULTS = flags.DEFINE_list("results", None, "Files or folders of results.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the report.", required=True)
_ALL = flags.DEFINE_bool("all", False, "Show the paper's benchmarks without a result too.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 0, "Images that are shown of every run; 0 for tables only.", lower_bound=0
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", "", "Folder of datasets, for runs whose data are not where they were."
)
_MODEL = flags.DEFINE_string("model", "", "Model directory, if it is not where it was.")
_CHOOSE = flags.DEFINE_enum(
    "choose", "random", ["random", "worst", "median", "best"], "Which images of a run."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of random images.", lower_bound=0)
_OTHERS = flags.DEFINE_list(
    "others", [], "Other models' masks for prompts: name:benchmark=file, ...."
)

_EVAL = pathlib.Path(__file__).resolve().parent.parent / "configs" / "eval.py"


def main(_: list[str]) -> None:
    """Writes the report: its tables at once, and again with the galleries."""
    logging.set_verbosity(logging.WARNING)
    from uniovseg_jax.eval.reports.found_results import find_results, is_prompted
    from uniovseg_jax.eval.reports.gallery import GalleryMaker
    from uniovseg_jax.eval.reports.other_masks import parse_others
    from uniovseg_jax.eval.reports.report import REPORT_HTML, REPORT_MD, write_report
    from uniovseg_jax.eval.reports.report_tables import make_tables
    from uniovseg_jax.eval.reports.run_labels import RunLabels

    output = pathlib.Path(str(_OUTPUT.value))
    try:
        _check_flags()
        get_config = load_config_file(_EVAL).get_config
        found = find_results(_RESULTS.value)
        documents = list(found.values())
        prompted = {document["benchmark"] for document in documents if is_prompted(document)}
        others = parse_others(_OTHERS.value, prompted)
        labels = RunLabels(documents, get_config)
        tables = make_tables(documents, labels, _ALL.value)
        write_report(documents, labels, tables, [], output)
        complaints = []
        if _NUM_IMAGES.value:
            maker = GalleryMaker(
                get_config,
                _DATA_DIR.value,
                _MODEL.value,
                _NUM_IMAGES.value,
                _CHOOSE.value,
                others,
                _SEED.value,
            )
            galleries, complaints = maker.make_all(found)
            write_report(documents, labels, tables, galleries, output)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print((output / REPORT_MD).read_text(encoding="utf-8"))
    print(f"Written: {output / REPORT_HTML}")
    for sentence in complaints:
        print(sentence, file=sys.stderr)


def _check_flags() -> None:
    """Raises a ValueError if a flag would do nothing."""
    for name in ("data_dir", "model", "others"):
        if flags.FLAGS[name].value and not _NUM_IMAGES.value:
            raise ValueError(f"--{name} is for galleries; add --num_images.")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
