r"""Converts images with masks to the shards that stage 1 reads; docs/data.md explains it all.

  python scripts/prepare_data.py --source=sa1b --input=<tar or folder of tars> --output=<folder> \
      --share=0.3 --num_workers=8
  python scripts/prepare_data.py --source=coco_instances --input=coco/train2017 \
      --annotations=coco/annotations/instances_train2017.json --output=<folder>
  python scripts/prepare_data.py --source=coco_panoptic --input=coco/train2017 \
      --annotations=coco/annotations/panoptic_train2017.json --output=<folder>
  python scripts/prepare_data.py --source=folder --input=<folder with images/ and masks/> \
      --output=<folder> --void_labels=255

Exit code: 0, or 2 with one sentence that says why nothing was finished.
"""

import pathlib
import sys

from absl import app, flags

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

flags.DEFINE_enum("source", None, list(_FLAGS_OF), "Layout of the input.", required=True)
flags.DEFINE_string("input", None, "Images: a folder, or tars for sa1b.", required=True)
flags.DEFINE_string("annotations", None, "JSON file of COCO, or folder of masks for folder.")
flags.DEFINE_string("output", None, "Folder for the records; made when needed.", required=True)
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
FLAGS = flags.FLAGS


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


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        print(f"Unexpected argument {argv[1]!r}: every argument is a --flag.", file=sys.stderr)
        return 2
    try:
        sample = make_sample()
        manifest = convert(
            make_source(sample),
            pathlib.Path(FLAGS.output),
            sample,
            FLAGS.records_per_shard,
            FLAGS.max_skipped,
            FLAGS.num_workers,
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{manifest.num_records} records with {manifest.num_masks} masks in "
        f"{len(manifest.shards)} shards, {sum(manifest.skipped.values())} skipped: {FLAGS.output}"
    )
    return 0


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; a wrong one is one sentence and exit code 2."""
    try:
        return FLAGS(argv)
    except flags.Error as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
