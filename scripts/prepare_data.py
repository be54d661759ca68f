r"""Makes data ready: photographs with masks for stage 1 (docs/data.md), or a benchmark.

Images with masks become the shards that stage 1 reads:

  python scripts/prepare_data.py --source=sa1b --input=<tar or folder of tars> --output=<folder> \
      --share=0.3 --num_workers=8
  python scripts/prepare_data.py --source=coco_instances --input=coco/train2017 \
      --annotations=coco/annotations/instances_train2017.json --output=<folder>
  python scripts/prepare_data.py --source=coco_panoptic --input=coco/train2017 \
      --annotations=coco/annotations/panoptic_train2017.json --output=<folder>
  python scripts/prepare_data.py --source=folder --input=<folder with images/ and masks/> \
      --output=<folder> --void_labels=255

What the owners of a benchmark leave to its users (docs/benchmarks_preparation.md) is made by

  python scripts/prepare_data.py <coco|ade20k|ade20k_full|pascal_context|voc|cityscapes> \
      --data_dir=<folder of all datasets>

which says what to download where something is missing. COCO's panoptic set and the labels of
Cityscapes may also come from a folder that TensorFlow Datasets has prepared:

  python scripts/prepare_data.py coco --data_dir=<folder of all datasets> \
      --tfds=<folder of tfds>/coco/2017_panoptic/1.1.0

Exit code: 0, or 2 with one sentence that says why nothing was finished.
"""

import pathlib
import sys

from absl import app, flags

from uniovseg_jax.benchmarks.preparation.prepare import NAMES, find_recipe, prepare
from uniovseg_jax.benchmarks.preparation.recipe import Recipe
from uniovseg_jax.benchmarks.preparation.tfds_sets import UNPACK
from uniovseg_jax.benchmarks.split_sizes import LONG_NAMES
from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags_and_words
from uniovseg_jax.data.conversion import convert
from uniovseg_jax.data.mask_sources.coco import CocoMasks
from uniovseg_jax.data.mask_sources.folder import FolderMasks
from uniovseg_jax.data.mask_sources.sa1b import Sa1bTars
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import MaskSource

# Flags that mean something for some of the sources only.
_FLAGS_OF = {
    "sa1b": {"tar_share"},
    "coco_instances": {"annotations"},
    "coco_panoptic": {"annotations"},
    "folder": {"annotations", "void_labels", "min_area"},
}

flags.DEFINE_enum("source", None, list(_FLAGS_OF), "Layout of the input.")
flags.DEFINE_string("input", None, "Images: a folder, or tars for sa1b.")
flags.DEFINE_string("annotations", None, "JSON file of COCO, or folder of masks for folder.")
flags.DEFINE_string("output", None, "Folder for the records; made when needed.")
flags.DEFINE_float("share", 1.0, "Share of the images to keep, chosen by a hash of the id.")
flags.DEFINE_float("tar_share", 1.0, "Instead: share of the tars, chosen by a hash of the name.")
flags.DEFINE_integer("seed", 0, "Of the sample; other seeds give other samples.")
flags.DEFINE_list("void_labels", [], "Labels of label maps that stand for nothing.")
flags.DEFINE_float(
    "min_area", 0.001, "Smallest region of label maps: pixels from 1 on, below a share."
)
flags.DEFINE_integer("records_per_shard", 1000, "Records in one file.")
flags.DEFINE_float("max_skipped", 0.01, "Largest share of records that may be unusable.")
flags.DEFINE_integer("num_workers", 1, "Processes that read and check images.")
flags.DEFINE_string("data_dir", None, "Of a benchmark: folder that holds all datasets.")
flags.DEFINE_enum("split", "val", list(LONG_NAMES), "Of a benchmark: which images.")
flags.DEFINE_string(
    "short_side", "512", "Of ade20k_full: longest short side in pixels, or original."
)
flags.DEFINE_string(
    "tfds", None, "Of coco and cityscapes: folder of tfds to unpack, in array_record."
)
FLAGS = flags.FLAGS

_CONVERSION_FLAGS = (
    *("source", "input", "annotations", "output", "share", "tar_share", "seed", "void_labels"),
    *("min_area", "records_per_shard", "max_skipped"),
)
_BENCHMARK_FLAGS = ("data_dir", "split", "short_side", "tfds")


def make_sample() -> Sample:
    """Returns the sample of the flags, by image or by tar."""
    if FLAGS["share"].present and FLAGS["tar_share"].present:
        raise ValueError("--share and --tar_share are two ways to choose; give one of them.")
    if FLAGS["tar_share"].present:
        return Sample("tar", FLAGS.tar_share, FLAGS.seed)
    return Sample("image", FLAGS.share, FLAGS.seed)


def make_source(sample: Sample) -> MaskSource:
    """Returns the source of the flags."""
    for name in set().union(*_FLAGS_OF.values()) - _FLAGS_OF[FLAGS.source]:
        if FLAGS[name].present:
            raise ValueError(f"--{name} means nothing for --source={FLAGS.source}.")
    if FLAGS.source == "sa1b":
        return Sa1bTars(FLAGS.input, sample)
    if FLAGS.source == "folder":
        images, masks = pathlib.Path(FLAGS.input), FLAGS.annotations
        if masks is None:
            images, masks = images / "images", images / "masks"
        return FolderMasks(images, masks, sample, _void_labels(), FLAGS.min_area)
    if FLAGS.annotations is None:
        raise ValueError(f"--source={FLAGS.source} needs --annotations, COCO's JSON file.")
    return CocoMasks(FLAGS.input, FLAGS.annotations, sample, FLAGS.source)


def _void_labels() -> tuple[int, ...]:
    try:
        return tuple(int(label) for label in FLAGS.void_labels)
    except ValueError:
        raise ValueError(
            f"--void_labels must be whole numbers with commas, got {FLAGS.void_labels}."
        ) from None


def _refuse(names: tuple[str, ...], use: str) -> None:
    for name in names:
        if FLAGS[name].present:
            raise ValueError(f"--{name} means nothing for {use}.")


def _short_side() -> int | None:
    if FLAGS.short_side == "original":
        return None
    if not FLAGS.short_side.isdecimal():
        raise ValueError(
            f"--short_side must be a whole number or original, got {FLAGS.short_side!r}."
        )
    return int(FLAGS.short_side)


def _print_needs(recipe: Recipe) -> None:
    print(f"{recipe.name} needs, in the folder that --data_dir names:")
    print(*(f"- {sentence}" for sentence in recipe.downloads), sep="\n")
    print("It makes there:")
    print(*(f"- {sentence}" for sentence in recipe.makes), sep="\n")


def prepare_benchmark(names: list[str]) -> None:
    """Prepares the dataset that the arguments name; says what to download if files are missing."""
    if len(names) > 1:
        raise ValueError(f"One dataset at a time, got {' '.join(names)}.")
    name = names[0]
    recipe = find_recipe(name, _short_side())
    _refuse(_CONVERSION_FLAGS, f"the preparation of {name}")
    if name != "ade20k_full":
        _refuse(("short_side",), name)
    if name not in UNPACK and FLAGS.tfds is not None:
        raise ValueError(f"--tfds means nothing for {name}; only for {' and '.join(UNPACK)}.")
    if FLAGS.data_dir is None:
        _print_needs(recipe)
        raise ValueError(f"{name} needs --data_dir, the folder that holds all datasets.")
    if FLAGS.tfds is not None:
        _unpack(name)
        return
    goes_on_when_repeated()
    try:
        done = prepare(
            recipe, pathlib.Path(FLAGS.data_dir), FLAGS.split, num_workers=FLAGS.num_workers
        )
    except FileNotFoundError:
        _print_needs(recipe)
        raise
    settings = "".join(f", {key} {value}" for key, value in done.settings.items())
    print(
        f"{name} {FLAGS.split}: {done.images} images are ready, {done.written} files written, "
        f"{done.kept} were right already{settings}."
    )


def _unpack(name: str) -> None:
    root = pathlib.Path(FLAGS.data_dir)
    if not root.is_dir():
        raise NotADirectoryError(f"There is no folder {root}; expected the one with all datasets.")
    count = UNPACK[name](pathlib.Path(FLAGS.tfds), root, FLAGS.split)
    print(f"{name} {FLAGS.split}: {count} images of {FLAGS.tfds} are unpacked.")


def convert_masks() -> None:
    """Converts the source of the flags."""
    _refuse(_BENCHMARK_FLAGS, "a conversion of masks; name a benchmark")
    for name in ("source", "input", "output"):
        if FLAGS[name].value is None:
            raise ValueError(
                f"--{name} is missing; expected --source, --input and --output, or the name of a "
                f"benchmark: {', '.join(NAMES)}."
            )
    sample = make_sample()
    manifest = convert(
        make_source(sample),
        pathlib.Path(FLAGS.output),
        sample,
        FLAGS.records_per_shard,
        FLAGS.max_skipped,
        FLAGS.num_workers,
    )
    print(
        f"{manifest.num_records} records with {manifest.num_masks} masks in "
        f"{len(manifest.shards)} shards, {sum(manifest.skipped.values())} skipped: {FLAGS.output}"
    )


def main(argv: list[str]) -> int:
    try:
        if len(argv) > 1:
            prepare_benchmark(argv[1:])
        else:
            convert_masks()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags_and_words)
