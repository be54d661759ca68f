r"""Segments an image, or every image of a folder, with words, or without any.

  python scripts/predict.py --model=<dir> --image=<file or folder> --output=<dir> \
      --vocabulary="grass,red ball|red sphere" --stuff="grass" --task=panoptic

Writes per image <name>_overlay.png, <name>_labels.png and <name>.json, and for a folder
contact_sheet.png; docs/usage.md explains them. Without --vocabulary masks have no names.
Exit code: 0; 1 if some images of a folder failed; 2 if nothing could be done.
"""

import collections
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import app, flags, logging
from PIL import Image

from uniovseg_jax import visualize
from uniovseg_jax.command_line import parse_flags
from uniovseg_jax.files import make_folder, write_text_whole, write_whole
from uniovseg_jax.image_io import read_image
from uniovseg_jax.inference.mask_generator import AutomaticMaskGenerator
from uniovseg_jax.inference.results import TASKS, Segmentation
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.prompt_templates import TEMPLATES
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.vocabulary import Vocabulary, parse_vocabulary, read_vocabulary
from uniovseg_jax.weights.store import Pretrained, load_pretrained

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# A contact sheet shows at most this many images.
_SHEET_LIMIT = 400

_PROPOSALS, _SEGMENTER = ProposalConfig(), SegmenterConfig()

flags.DEFINE_string("model", None, "Model directory.", required=True)
flags.DEFINE_string("image", None, "Image file, or folder of images.", required=True)
flags.DEFINE_string("output", None, "Folder for the results; made when needed.", required=True)
flags.DEFINE_string(
    "vocabulary",
    None,
    "Names with commas between them, synonyms joined by |; or @ and a file with a class per line.",
)
flags.DEFINE_string("stuff", "", "Those of the names that are stuff; all others are things.")
flags.DEFINE_string("background", "", "More names; what they win stays without a label.")
flags.DEFINE_float("min_cosine", None, "Regions less similar to every name get no label.")
flags.DEFINE_enum("task", "panoptic", list(TASKS), "What to write where there is a vocabulary.")
flags.DEFINE_enum("templates", _SEGMENTER.templates, list(TEMPLATES), "Prompts around a name.")
flags.DEFINE_integer(
    "points_per_side", None, "Side of the point grid; default: the model's own.", lower_bound=1
)
flags.DEFINE_float(
    "score_threshold", _PROPOSALS.score_threshold, "Least predicted quality of a mask."
)
flags.DEFINE_float(
    "object_threshold", _SEGMENTER.object_threshold, "The same, for panoptic segments."
)
flags.DEFINE_float(
    "overlap_threshold", _SEGMENTER.overlap_threshold, "Least share of itself that a segment owns."
)
flags.DEFINE_string("text_cache", None, "Folder that keeps embeddings of names for later runs.")
FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Result:
    """What is written for one image.

    Attributes:
      label_map: 0 for void.
      colours: One per label.
      captions: Names to draw, by label.
      document: The JSON.
    """

    label_map: np.ndarray
    colours: np.ndarray
    captions: dict[int, str]
    document: dict[str, Any]


def make_named_predictor(
    pretrained: Pretrained, vocabulary: Vocabulary
) -> Callable[[np.ndarray], Result]:
    """Returns `image -> Result` for the vocabulary of the flags."""
    config = SegmenterConfig(
        proposals=_proposal_config(),
        object_threshold=FLAGS.object_threshold,
        overlap_threshold=FLAGS.overlap_threshold,
        templates=FLAGS.templates,
    )
    labels = vocabulary.labels[: vocabulary.num_foreground]
    colours = visualize.distinct_colours(labels)
    segmenter = OpenVocabularySegmenter(pretrained, config, FLAGS.text_cache)
    segmenter.use_vocabulary(vocabulary, FLAGS.min_cosine)

    def predict(image: np.ndarray) -> Result:
        found: Segmentation = segmenter.segment(image, FLAGS.task)
        captions = {segment.id: segment.name for segment in found.segments}
        if FLAGS.task == "semantic":
            # Of fixed depth, whichever of the categories an image holds.
            label_map = _smallest_type(found.label_map, len(labels))
            segment_colours = colours
        else:
            label_map = _smallest_type(found.label_map, len(found.segments))
            names = [labels.index(segment.name) for segment in found.segments]
            segment_colours = colours[names]
        document = {
            "task": FLAGS.task,
            "categories": list(labels),
            "segments": [dataclasses.asdict(segment) for segment in found.segments],
        }
        return Result(label_map, segment_colours, captions, document)

    return predict


def make_class_free_predictor(pretrained: Pretrained) -> Callable[[np.ndarray], Result]:
    """Returns `image -> Result` for masks without names."""
    generator = AutomaticMaskGenerator(pretrained, _proposal_config(), output_mode="coco_rle")

    def predict(image: np.ndarray) -> Result:
        records = sorted(generator.generate(image), key=lambda record: -record["area"])
        label_map = np.zeros(image.shape[:2], np.uint16)
        for label, record in enumerate(records, start=1):
            # Small masks over large ones.
            label_map[rle_decode(record["segmentation"])] = label
        colours = visualize.distinct_colours([f"mask {k}" for k in range(len(records))])
        segments = [{"id": label} | record for label, record in enumerate(records, start=1)]
        document = {"task": "masks", "segments": segments}
        return Result(_smallest_type(label_map, len(records)), colours, {}, document)

    return predict


def _proposal_config() -> ProposalConfig:
    return dataclasses.replace(
        _PROPOSALS, points_per_side=FLAGS.points_per_side, score_threshold=FLAGS.score_threshold
    )


def _smallest_type(label_map: np.ndarray, largest: int) -> np.ndarray:
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(f"{largest} labels do not fit a 16-bit label map.")
    return label_map.astype(np.uint8 if largest <= np.iinfo(np.uint8).max else np.uint16)


def find_images(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image itself, or all images directly in a folder, by name."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: expected an image or a folder of images.")
    if not path.is_dir():
        return [path]
    images = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in _SUFFIXES)
    if not images:
        raise ValueError(f"{path} holds no image: expected files ending in {_listed(_SUFFIXES)}.")
    return images


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def output_names(images: list[pathlib.Path]) -> list[str]:
    """Returns the stem of every image; the whole name, dot replaced, where stems repeat."""
    stems = collections.Counter(image.stem for image in images)
    return [
        image.stem if stems[image.stem] == 1 else image.name.replace(".", "_") for image in images
    ]


def write_result(
    folder: pathlib.Path, name: str, source: pathlib.Path, image: np.ndarray, result: Result
) -> np.ndarray:
    """Writes the three files of one image and returns the overlay."""
    drawn = visualize.overlay(image, result.label_map, result.colours, result.captions)
    height, width = image.shape[:2]
    document = {"image": source.name, "height": height, "width": width} | result.document
    labels = Image.fromarray(result.label_map)
    write_whole(folder / f"{name}_overlay.png", Image.fromarray(drawn).save)
    write_whole(folder / f"{name}_labels.png", labels.save)
    text = json.dumps(document, indent=1)
    write_text_whole(folder / f"{name}.json", text + "\n")
    return drawn


def run() -> int:
    """Does it all; returns the exit code."""
    source, folder = pathlib.Path(FLAGS.image), pathlib.Path(FLAGS.output)
    images = find_images(source)
    if source.is_dir() and folder.resolve() == source.resolve():
        raise ValueError(f"{folder}: results cannot go to the folder that the images come from.")
    # What is quickly wrong is found before the model is read.
    if FLAGS.vocabulary is None:
        predict = make_class_free_predictor(load_pretrained(FLAGS.model))
    else:
        read = read_vocabulary if FLAGS.vocabulary.startswith("@") else parse_vocabulary
        names = FLAGS.vocabulary.removeprefix("@")
        vocabulary = read(names, FLAGS.stuff, FLAGS.background)
        predict = make_named_predictor(load_pretrained(FLAGS.model), vocabulary)
    make_folder(folder)

    failures: list[str] = []
    thumbnails: list[tuple[np.ndarray, str]] = []
    bar = tqdm.tqdm(images, unit="image", disable=len(images) == 1)
    for path, name in zip(bar, output_names(images), strict=True):
        try:
            image = read_image(path)
            drawn = write_result(folder, name, path, image, predict(image))
        except (ValueError, OSError) as error:
            if not source.is_dir():
                raise
            failures.append(path.name)
            bar.write(f"{error}", file=sys.stderr)
            continue
        if source.is_dir() and len(thumbnails) < _SHEET_LIMIT:
            thumbnails.append((visualize.thumbnail(drawn, 384), path.name))
    if thumbnails:
        pictures, titles = zip(*thumbnails, strict=True)
        cell = 384 if len(pictures) <= 64 else 160
        sheet = Image.fromarray(visualize.contact_sheet(pictures, titles, cell=cell))
        write_whole(folder / "contact_sheet.png", sheet.save)
    print(f"{len(images) - len(failures)} of {len(images)} images written to {folder}.")
    if failures:
        print(f"Failed: {', '.join(failures)}.", file=sys.stderr)
    return 1 if failures else 0


def main(_: list[str]) -> int:
    logging.set_verbosity(logging.WARNING)  # JAX reports every backend that is not there.
    try:
        return run()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
