"""A plain folder: images, and for each a label map (PNG) or its masks (JSON), by file stem."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from scipy import ndimage

from uniovseg_jax.data.mask_sources.sa1b import read_sa1b_annotation
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import (
    MAX_ANNOTATION_BYTES,
    MAX_IMAGE_BYTES,
    Annotation,
    Candidate,
    FilePart,
    Skipped,
)
from uniovseg_jax.data.records import MAX_MASKS
from uniovseg_jax.image_io import read_labels
from uniovseg_jax.json_fields import parse_json
from uniovseg_jax.masks import rle_encode

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_MASK_SUFFIXES = (".png", ".json")
# Pixels that touch at a corner belong together, as thin diagonal things should not fall apart.
_NEIGHBOURS = np.ones((3, 3), bool)


class FolderMasks:
    """Images and annotations of two folders, in the order of their stems."""

    def __init__(
        self,
        images: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        sample: Sample,
        void_labels: tuple[int, ...],
        min_area: float,
    ):
        """Lists both folders.

        Args:
          images: Folder of the images.
          annotations: Folder of label maps or JSON files with the same stems.
          sample: By image, whose id is its stem.
          void_labels: Labels whose pixels belong to no mask.
          min_area: Smaller regions of label maps are dropped; from 1 on in pixels, below as a share
            of the image.

        Raises:
          FileNotFoundError: If a folder is not there.
          ValueError: If a folder holds no file of its kinds or a stem twice, or an option is out
            of its range.
        """
        if not 0 <= min_area < float("inf"):
            raise ValueError(f"min_area must be 0 or more, got {min_area}.")
        if not all(0 <= label < 1 << 16 for label in void_labels):
            raise ValueError(f"Void labels must lie from 0 to 65535, got {list(void_labels)}.")
        self._images = by_stem(pathlib.Path(images), IMAGE_SUFFIXES)
        self._annotations = by_stem(pathlib.Path(annotations), _MASK_SUFFIXES)
        self._sample = sample
        self._void_labels, self._min_area = tuple(sorted(set(void_labels))), min_area
        self._stems = sorted(self._images.keys() | self._annotations.keys())
        self.total = len(self._stems)

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the options."""
        return {
            "layout": "folder",
            "void_labels": list(self._void_labels),
            "min_area": self._min_area,
        }

    def candidates(self) -> Iterator[Candidate | Skipped]:
        """Yields the images of the sample; a file without its other half is skipped.

        So is one whose name is not UTF-8.
        """
        for stem in filter(self._sample.keeps_image, self._stems):
            image, annotation = self._images.get(stem), self._annotations.get(stem)
            if not _is_text(stem):
                detail = "The file name is not UTF-8, which the id of a record has to be."
                yield Skipped(f"{stem!r}", "bad name", detail)
            elif annotation is None:
                yield Skipped(f"{stem!r}", "no annotation", "There is no mask file of this stem.")
            elif image is None:
                yield Skipped(f"{stem!r}", "no image", "There is no image of this stem.")
            else:
                part = FilePart(annotation)
                read = functools.partial(_read_json, part)
                if annotation.suffix.lower() == ".png":
                    read = functools.partial(
                        _read_label_map, part, self._void_labels, self._min_area
                    )
                yield Candidate(stem, f"{image.name!r}", FilePart(image), read)


def number_regions(
    labels: Integer[np.ndarray, "h w"], void_labels: tuple[int, ...], min_area: float
) -> tuple[Int[np.ndarray, "h w"], int, int]:
    """Numbers the connected regions of a label map.

    Pixels of one label are connected when they touch at an edge or a corner.

    Args:
      labels: Label of every pixel, 0 or more.
      void_labels: Labels that make no region.
      min_area: Smaller regions are left out; from 1 on in pixels, below as a share of the map.

    Returns:
      The region of every pixel, from 1 on by label and within one from top to bottom, 0 for none;
      the number of regions; and how many were too small.

    Raises:
      ValueError: If there are more than `MAX_MASKS` labels or regions.
    """
    least = min_area if min_area >= 1 else min_area * labels.size
    # find_objects counts from 1; a label that does not occur has no box.
    boxes: Any = ndimage.find_objects(labels.astype(np.int32) + 1)
    found = [n for n, box in enumerate(boxes) if box is not None and n not in void_labels]
    if len(found) > MAX_MASKS:
        raise ValueError(f"{len(found)} labels, expected at most {MAX_MASKS}")
    regions, num_regions, num_small = np.zeros(labels.shape, np.int32), 0, 0
    for label in found:
        box = boxes[label]
        numbers: Any = ndimage.label(labels[box] == label, _NEIGHBOURS)[0]  # pyright: ignore
        areas = np.bincount(numbers.ravel())
        kept: Any = areas >= least
        kept[0] = False
        # Renumbered without gaps, behind those of the labels before.
        regions[box] += np.where(kept, num_regions + np.cumsum(kept), 0).astype(np.int32)[numbers]
        num_regions += int(kept.sum())
        num_small += int(areas.size - 1 - kept.sum())
        if num_regions > MAX_MASKS:
            raise ValueError(f"more than {MAX_MASKS} regions")
    return regions, num_regions, num_small


def _read_label_map(part: FilePart, void_labels: tuple[int, ...], min_area: float) -> Annotation:
    labels = read_labels(part.read(MAX_IMAGE_BYTES), part.path.name)
    try:
        regions, num_regions, num_small = number_regions(labels, void_labels, min_area)
    except ValueError as error:
        raise ValueError(
            f"{part.path.name} has {error}; is it a label map, and min_area not too small?"
        ) from error
    masks = [rle_encode(regions == number) for number in range(1, num_regions + 1)]
    height, width = labels.shape
    return Annotation(height, width, masks, {"small": num_small})


def _read_json(part: FilePart) -> Annotation:
    """Reads a list of run-length masks, or the JSON of one image of SA-1B."""
    masks = parse_json(part.read(MAX_ANNOTATION_BYTES))
    if isinstance(masks, dict):
        return read_sa1b_annotation(masks)
    if not isinstance(masks, list) or not masks:
        raise ValueError("Expected a list of masks, or an object as SA-1B has it.")
    size = masks[0].get("size") if isinstance(masks[0], dict) else None
    if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
        raise ValueError('Mask 0 has no "size" of two whole numbers.')
    height, width = size
    return Annotation(height, width, masks)


def _is_text(name: str) -> bool:
    """Says whether a file name is UTF-8; other bytes come as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def by_stem(folder: pathlib.Path, suffixes: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Lists the files of some kinds in a folder, in the order of their names.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If it holds no such file, or two of one stem.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        if path.stem in found:
            raise ValueError(
                f"{folder} holds {found[path.stem].name} and {path.name}: one stem, two files."
            )
        found[path.stem] = path
    if not found:
        inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"; name one of its folders, such as {inner[0]}" if inner else ""
        raise ValueError(f"{folder} holds no file ending in {', '.join(suffixes)}{hint}.")
    return found
