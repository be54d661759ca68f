"""COCO's two annotation files: instances (polygons and run lengths) and panoptic (PNG ids)."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from uniovseg_jax.data.coco_file import (
    MAX_SEGMENT_ID,
    find_segments,
    read_coco_json,
    read_panoptic_png,
)
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import (
    Annotation,
    Candidate,
    FilePart,
    Skipped,
    is_plain_name,
)
from uniovseg_jax.data.records import MAX_MASKS
from uniovseg_jax.image_io import MAX_PIXELS
from uniovseg_jax.json_fields import whole_number
from uniovseg_jax.masks import MAX_SIDE, rle_area, rle_encode
from uniovseg_jax.polygons import draw_polygons


class CocoMasks:
    """Images of a COCO annotation file, in the order of the file; crowd regions are left out."""

    def __init__(
        self,
        images: str | os.PathLike[str],
        annotations: str | os.PathLike[str],
        sample: Sample,
        layout: str,
    ):
        """Reads the annotation file; it stays in memory.

        Args:
          images: Folder of the images.
          annotations: The JSON file.
          sample: By image.
          layout: `coco_instances` or `coco_panoptic`. The PNG files of the latter are looked for
            in the folder of the JSON file's name without `.json`, beside it or one level up.

        Raises:
          FileNotFoundError: If a folder or the file is not there.
          ValueError: If the file is not COCO's, names an image twice, or has polygons and
            pycocotools is not installed.
        """
        self._images, self._path = pathlib.Path(images), pathlib.Path(annotations)
        self._sample, self._layout = sample, layout
        if not self._images.is_dir():
            raise FileNotFoundError(f"There is no image folder {self._images}.")
        document = read_coco_json(self._path)
        self._entries = document["images"]
        self.total = len(self._entries)
        self._by_image, self._strays = _group(document["annotations"], self._path.name)
        if layout == "coco_panoptic":
            self._segments = find_segments(self._path)

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the name of the annotation file."""
        return {"layout": self._layout, "annotations": self._path.name}

    def candidates(self) -> Iterator[Candidate | Skipped]:
        """Yields the images of the sample, then those that only annotations know of.

        Last come annotations that name no image at all.
        """
        known = set()
        for index, entry in enumerate(self._entries):
            name = f"{self._path.name}: images[{index}]"
            try:
                image_id = whole_number(entry, "id", low=0)
                known.add(image_id)
                if not self._sample.keeps_image(str(image_id)):
                    continue
                if not is_plain_name(entry.get("file_name")):
                    raise ValueError(
                        f"'file_name' is {str(entry.get('file_name'))[:80]!r}, expected that of a "
                        "file directly in the image folder."
                    )
                hw = (
                    whole_number(entry, "height", high=MAX_SIDE),
                    whole_number(entry, "width", high=MAX_SIDE),
                )
                if hw[0] * hw[1] > MAX_PIXELS:
                    raise ValueError(f"{hw[0]} x {hw[1]} is more than {MAX_PIXELS} pixels.")
            except ValueError as error:
                yield Skipped(name, "bad annotation", str(error))
                continue
            path = self._images / entry["file_name"]
            if not path.is_file():
                yield Skipped(name, "no image", f"There is no {path.name} in the image folder.")
                continue
            read = self._reader(self._by_image.get(image_id, []), hw)
            yield Candidate(str(image_id), f"{name} ({path.name})", FilePart(path), read)
        for image_id, entries in self._by_image.items():
            # One per image, as everything is counted, however many annotations it has.
            if image_id not in known and self._sample.keeps_image(str(image_id)):
                name = f"{self._path.name}: annotations[{entries[0][0]}]"
                detail = f"Annotations about image {image_id}, which is not listed: {len(entries)}."
                yield Skipped(name, "no image", detail)
        yield from self._strays

    def _reader(
        self, entries: list[tuple[int, dict[str, Any]]], hw: tuple[int, int]
    ) -> Callable[[], Annotation]:
        if self._layout == "coco_instances":
            return functools.partial(_read_instances, entries, *hw)
        return functools.partial(_read_panoptic, entries, *hw, self._segments)


def _group(
    annotations: list[Any], file: str
) -> tuple[dict[int, list[tuple[int, dict[str, Any]]]], list[Skipped]]:
    """Sorts annotations, with their position, by image; those without one are put aside."""
    groups: dict[int, list[tuple[int, dict[str, Any]]]] = {}
    strays = []
    for index, entry in enumerate(annotations):
        try:
            groups.setdefault(whole_number(entry, "image_id", low=0), []).append((index, entry))
        except ValueError as error:
            strays.append(Skipped(f"{file}: annotations[{index}]", "bad annotation", str(error)))
    return groups, strays


def _read_instances(
    entries: list[tuple[int, dict[str, Any]]], height: int, width: int
) -> Annotation:
    masks, num_crowd = [], 0
    for index, entry in entries:
        if entry.get("iscrowd") not in (None, 0):
            num_crowd += 1
            continue
        segmentation = entry.get("segmentation")
        try:
            if isinstance(segmentation, list):
                segmentation = draw_polygons(segmentation, height, width)
            else:
                # Here, so that the complaint names the entry; a second look costs little.
                rle_area(segmentation)
        except ValueError as error:
            raise ValueError(f"annotations[{index}]: {error}") from error
        masks.append(segmentation)
    return Annotation(height, width, masks, {"crowd": num_crowd})


def _read_panoptic(
    entries: list[tuple[int, dict[str, Any]]], height: int, width: int, folder: pathlib.Path
) -> Annotation:
    if len(entries) != 1:
        raise ValueError(f"It has {len(entries)} annotations, expected one.")
    index, entry = entries[0]
    infos = entry.get("segments_info")
    if not is_plain_name(entry.get("file_name")) or not isinstance(infos, list):
        raise ValueError(f"annotations[{index}] lacks a plain file_name or a list segments_info.")
    if len(infos) > MAX_MASKS:
        raise ValueError(f"annotations[{index}] lists {len(infos)} segments, over {MAX_MASKS}.")
    ids = read_panoptic_png(folder / entry["file_name"])
    if ids.shape != (height, width):
        raise ValueError(
            f"{entry['file_name']} has {ids.shape[0]} x {ids.shape[1]} pixels, its image "
            f"{height} x {width}."
        )
    listed = [whole_number(info, "id", high=MAX_SEGMENT_ID) for info in infos]
    present = set(np.unique(ids).tolist()) - {0}
    if len(set(listed)) < len(listed) or present - set(listed):
        raise ValueError(f"{entry['file_name']} and segments_info do not name the same segments.")
    crowd = {info["id"] for info in infos if info.get("iscrowd") not in (None, 0)}
    masks = [rle_encode(ids == number) for number in listed if number not in crowd]
    return Annotation(height, width, masks, {"crowd": len(crowd)})
