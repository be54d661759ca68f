"""A fixed sample of the images of large sets, and the file that keeps it.

SAM (arXiv 2304.02643, table 7) scores sets of more than 15,000 masks on images with about 10,000
masks together; which ones is not public. Here a seed and the images' ids decide, not their order.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.prompted import SCORED_WHOLE
from uniovseg_jax.data.mask_sources.sampling import name_digest
from uniovseg_jax.data.mask_sources.source import FilePart
from uniovseg_jax.data.threads import map_images
from uniovseg_jax.files import make_folder, write_text_whole
from uniovseg_jax.json_fields import parse_json, whole_number
from uniovseg_jax.masks import rle_area

# Masks from which on a set is sampled, and that a sample has at least.
LARGE_SET = 15_000
SAMPLED_MASKS = 10_000
_MAX_FILE_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class ImageSample:
    """The images of one set that are scored.

    Attributes:
      seed: That they were drawn with.
      num_masks: That they have together.
      images: Sorted ids by the name of the benchmark; a set of parts has several.
    """

    seed: int
    num_masks: int
    images: Mapping[str, tuple[str, ...]]


def count_masks(benchmark: Benchmark, progress: bool = True) -> dict[str, int]:
    """Returns how many masks every image has that are scored.

    It reads all labels, in threads and, with `progress`, with a bar.

    Raises:
      ValueError: If the benchmark has no masks, or a file is missing or damaged.
    """
    read = benchmark.read_masks
    if read is None:
        raise ValueError(f"{benchmark.name} has no masks without classes to count.")

    def count(image_id: str) -> int:
        return sum(not rle.get("iscrowd") and rle_area(rle) > 0 for rle in read(image_id))

    image_ids = list(benchmark.images)
    counts = map_images(count, image_ids, f"masks of {benchmark.name}", progress)
    return dict(zip(image_ids, counts, strict=True))


def draw_sample(counts: Mapping[str, Mapping[str, int]], seed: int) -> ImageSample:
    """Takes images in the order of `name_digest` until they have enough masks.

    Args:
      counts: Masks by the benchmark's name and the image's id. Parts are drawn from together.
      seed: 0 or more.

    Returns:
      All images if they have `LARGE_SET` masks or fewer; otherwise as many as are needed for
      `SAMPLED_MASKS`, and none without a mask.
    """
    total = sum(sum(part.values()) for part in counts.values())
    everything = [(name, image_id) for name, part in counts.items() for image_id in part]
    if total <= LARGE_SET:
        return _sample(everything, counts, seed)
    order = sorted(everything, key=lambda key: (name_digest(seed, "/".join(key)), key))
    taken, num_masks = [], 0
    for name, image_id in order:
        if num_masks >= SAMPLED_MASKS:
            break
        if counts[name][image_id]:
            taken.append((name, image_id))
            num_masks += counts[name][image_id]
    return _sample(taken, counts, seed)


def sampled_unless_whole(
    name: str,
    parts: Sequence[Benchmark],
    path: pathlib.Path,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Benchmark, ...]:
    """Does as `sampled`, but for the sets that are scored whole however large they are.

    Args:
      name: Of the set, or of the suite and a part of it.
      parts: As of `sampled`.
      path: As of `sampled`.
      seed: As of `sampled`.
      progress: As of `sampled`.
    """
    if name.partition("/")[0] in SCORED_WHOLE:
        return tuple(parts)
    return sampled(parts, path, seed, progress)


def sampled(
    parts: Sequence[Benchmark], path: pathlib.Path, seed: int = 0, progress: bool = True
) -> tuple[Benchmark, ...]:
    """Returns the parts of a set with the images of its sample only.

    Args:
      parts: One benchmark, or those of a suite.
      path: File of the sample. If it is there, it decides; otherwise it is written, for which the
        labels of all images are read.
      seed: What the sample is, or has to be, drawn with.
      progress: Whether to show a bar while labels are read.

    Raises:
      ValueError: If the file is not that of a sample of these parts and this seed.
    """
    if path.is_file():
        sample = read_sample(path)
    else:
        sample = draw_sample({part.name: count_masks(part, progress) for part in parts}, seed)
        write_sample(sample, path)
    if sample.seed != seed:
        raise ValueError(f"{path} was drawn with seed {sample.seed}, expected {seed}.")
    if set(sample.images) != {part.name for part in parts}:
        raise ValueError(
            f"{path} is a sample of {', '.join(sorted(sample.images))}, expected one of "
            f"{', '.join(sorted(part.name for part in parts))}."
        )
    return tuple(_restrict(part, sample.images[part.name], path) for part in parts)


def write_sample(sample: ImageSample, path: pathlib.Path) -> None:
    """Writes a sample as JSON, whole or not at all."""
    text = json.dumps(dataclasses.asdict(sample), indent=1) + "\n"
    make_folder(path.parent)
    write_text_whole(path, text)


def read_sample(path: pathlib.Path) -> ImageSample:
    """Reads what `write_sample` wrote.

    Raises:
      ValueError: If the file is missing or anything else.
    """
    try:
        document = parse_json(FilePart(path).read(_MAX_FILE_BYTES))
        seed = whole_number(document, "seed", low=0)
        num_masks = whole_number(document, "num_masks", low=0)
        images = document.get("images")
        if not isinstance(images, dict) or not all(map(_is_list_of_ids, images.values())):
            raise ValueError("'images' must hold lists of different ids by benchmark.")
    except ValueError as error:
        raise ValueError(f"{path} is no sample of images: {error}") from error
    return ImageSample(seed, num_masks, {name: tuple(ids) for name, ids in images.items()})


def _sample(
    taken: list[tuple[str, str]], counts: Mapping[str, Mapping[str, int]], seed: int
) -> ImageSample:
    # Parts of which nothing was drawn are there too: their score is missing, not their name.
    images: dict[str, list[str]] = {name: [] for name in sorted(counts)}
    for name, image_id in taken:
        images[name].append(image_id)
    num_masks = sum(counts[name][image_id] for name, image_id in taken)
    return ImageSample(seed, num_masks, {name: tuple(sorted(ids)) for name, ids in images.items()})


def _restrict(part: Benchmark, image_ids: tuple[str, ...], path: pathlib.Path) -> Benchmark:
    missing = set(image_ids) - part.images.keys()
    if missing:
        raise ValueError(
            f"{path} names the image {min(missing)}, which {part.name} does not have; is it the "
            "sample of another split or release?"
        )
    kept = set(image_ids)
    images = {image_id: file for image_id, file in part.images.items() if image_id in kept}
    return dataclasses.replace(part, images=images)


def _is_list_of_ids(ids: Any) -> bool:
    return (
        isinstance(ids, list)
        and all(isinstance(image_id, str) for image_id in ids)
        and len(set(ids)) == len(ids)
    )
