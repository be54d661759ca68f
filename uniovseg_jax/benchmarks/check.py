"""What is looked at before a benchmark is scored, so that no hours are spent on a broken copy."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tqdm

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.data.threads import map_images
from uniovseg_jax.files import first_of
from uniovseg_jax.image_io import check_fits, stored_hw


def check_benchmark(benchmark: Benchmark, progress: bool = True) -> None:
    """Looks at the headers of all files, and at what belongs together; decodes nothing.

    Args:
      benchmark: As it was opened.
      progress: Whether to show a bar.

    Raises:
      FileNotFoundError: If an image or a label file is missing.
      ValueError: If there is nothing to score, images and labels differ in size, or the lists of
        classes do not fit together.
    """
    if not benchmark.images:
        raise ValueError(f"{benchmark.name} has no image; expected at least one.")
    if not benchmark.tasks:
        raise ValueError(f"{benchmark.name} has nothing that it can be scored on.")
    _check_classes(benchmark)
    if benchmark.read_image is not None:
        return
    title, items = f"files of {benchmark.name}", benchmark.images.items()
    for image_id, path in tqdm.tqdm(items, title, unit="image", disable=not progress):
        if benchmark.read_sizes is None:
            stored_hw(path)
        else:
            check_fits(path, benchmark.read_sizes(image_id))


def check_labels(
    benchmark: Benchmark, tasks: Sequence[str], image_ids: Sequence[str], progress: bool = True
) -> None:
    """Reads all labels that are going to be scored, in threads.

    Args:
      benchmark: As `check_benchmark` found it well.
      tasks: That it is scored on.
      image_ids: Some of its images.
      progress: Whether to show a bar.

    Raises:
      FileNotFoundError: If a label file is missing.
      ValueError: If a label file is damaged or holds an id of no class.
    """
    readers = [benchmark.readers[task] for task in tasks]

    def read(image_id: str) -> None:
        for reader in readers:
            reader(image_id)

    for _ in map_images(read, image_ids, f"labels of {benchmark.name}", progress):
        pass


def _check_classes(benchmark: Benchmark) -> None:
    classes, words, folded = benchmark.classes, benchmark.words, benchmark.folded
    if classes is None:
        if benchmark.tasks != ("promptable",):
            raise ValueError(f"{benchmark.name} is scored by class, but has no list of classes.")
        return
    if (words is None) != (folded is None):
        raise ValueError(f"{benchmark.name}: words and what they are folded to go together.")
    if words is not None and folded is not None:
        if len(folded) != len(words):
            raise ValueError(
                f"{benchmark.name} folds {len(folded)} words, but its list has {len(words)}."
            )
        wrong = np.flatnonzero((folded < 0) | (folded >= len(classes)))
        if wrong.size:
            raise ValueError(
                f"{benchmark.name} folds its word {wrong[0]} to class {folded[wrong[0]]}; expected "
                f"0 to {len(classes) - 1}."
            )


def check_pairs(
    images: Mapping[str, pathlib.Path], labels: Mapping[str, object], where: pathlib.Path
) -> None:
    """Makes sure that every image has labels and all labels have an image.

    Scoring only what happens to have both would give the number of another dataset.

    Args:
      images: By id.
      labels: By id.
      where: The labels are, for complaints.

    Raises:
      ValueError: If something lacks its other half; names the first.
    """
    for missing, ids, among in (
        ("are no labels", images.keys() - labels.keys(), f"{len(images)} images"),
        ("is no image", labels.keys() - images.keys(), f"{len(labels)} labels"),
    ):
        if ids:
            raise ValueError(
                f"{where}: there {missing} for {first_of(ids)}, of {among}; expected the same ids "
                "on both sides."
            )
