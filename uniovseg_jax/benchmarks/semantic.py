"""Benchmarks of one label map per image: what the functions that open them have in common."""

import pathlib

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_pairs
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.labels.label_maps import LabelMaps
from uniovseg_jax.benchmarks.preparation_record import check_finished
from uniovseg_jax.benchmarks.split_sizes import LONG_NAMES
from uniovseg_jax.data.mask_sources.folder import by_stem

# Images and label files, by id.
Files = tuple[dict[str, pathlib.Path], dict[str, pathlib.Path]]


def semantic_benchmark(
    name: str, root: pathlib.Path, files: Files, labels: LabelMaps, classes: ClassList
) -> Benchmark:
    """Makes a benchmark of one label map per image.

    Raises:
      ValueError: If images and label files do not belong together.
    """
    check_pairs(*files, root)
    return Benchmark(
        name=name,
        images=files[0],
        read_semantic=labels.read,
        classes=classes,
        read_sizes=labels.hw,
        label_names={image_id: path.stem for image_id, path in files[1].items()},
        file_ids={"semantic": tuple(sorted(labels.index_of, key=labels.index_of.__getitem__))},
    )


def prepared_files(root: pathlib.Path, split: str, images: str, labels: str, suffix: str) -> Files:
    """Lists the folders `training` or `validation` of a prepared dataset.

    Raises:
      FileNotFoundError: If a folder is missing.
      ValueError: If the preparation is not finished, a folder holds nothing of its kind, or there
        is no such split.
    """
    long = long_name(split)
    check_finished(root / pathlib.PurePath(images).parts[0], split)
    return by_stem(root / images / long, (".jpg",)), by_stem(root / labels / long, (suffix,))


def long_name(split: str) -> str:
    """Returns `training` or `validation`.

    Raises:
      ValueError: If the split is neither `train` nor `val`.
    """
    if split not in LONG_NAMES:
        raise ValueError(f"There is no split {split!r}; expected train or val.")
    return LONG_NAMES[split]
