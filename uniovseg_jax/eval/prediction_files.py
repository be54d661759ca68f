"""What a model predicted on a benchmark, in the usual forms, for other programs that score."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer
from PIL import Image

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.labels.label_maps import VOID_8, VOID_16
from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.eval.files.panoptic_files import write_panoptic_json, write_panoptic_map
from uniovseg_jax.eval.metrics.instance import PredictedInstance
from uniovseg_jax.files import make_folder, write_text_whole, write_whole

FOLDER = "predictions"


class PredictionFiles:
    """Predictions of a benchmark in one folder, with the ids that the files of its truth have.

    `semantic/` has label maps of 8 bits with 255 for void, or of 16 bits with 65535 where an id is
    255 or more; their names are those of the true ones, within the folder of the split.
    `panoptic/<image>.png` with `panoptic.json` are COCO's panoptic form, and `instance.json` is a
    list of COCO results. What goes into a JSON file is kept image by image until `finish`, so that
    a run can be left and taken up.

    Args:
      folder: Made when needed.
      benchmark: With classes.
    """

    def __init__(self, folder: pathlib.Path, benchmark: Benchmark):
        self._folder, self._benchmark = folder, benchmark

    def classes(self, task: str) -> ClassList:
        """Returns the classes with the ids that predictions are written in."""
        classes = self._benchmark.classes
        assert classes is not None
        ids = self._benchmark.file_ids.get(task)
        if ids is None:
            return classes
        infos = [
            dataclasses.replace(info, id=number)
            for info, number in zip(classes.classes, ids, strict=True)
        ]
        return dataclasses.replace(classes, classes=tuple(infos))

    def write_semantic(self, image_id: str, indices: Int32[np.ndarray, "h w"]) -> None:
        """Writes a label map from indices of classes, -1 for void."""
        ids = np.array([info.id for info in self.classes("semantic").classes])
        small = ids.max() < VOID_8
        values = np.append(ids, VOID_8 if small else VOID_16)[indices]
        image = Image.fromarray(values.astype(np.uint8 if small else np.uint16))
        name = self._benchmark.label_names.get(image_id) or self._name(image_id)
        path = self._folder / "semantic" / f"{name}.png"
        make_folder(path.parent)
        write_whole(path, lambda temporary: image.save(temporary, "PNG"))

    def write_panoptic(
        self, image_id: str, ids: Integer[np.ndarray, "h w"], segments: Sequence[Segment]
    ) -> None:
        """Writes the map of an image and what its segments are."""
        name, folder = self._name(image_id), self._folder / "panoptic"
        entry = write_panoptic_map(
            folder,
            stored_id(image_id),
            f"{name}.png",
            ids,
            segments,
            self.classes("panoptic"),
        )
        self._write_entry("panoptic", image_id, entry)

    def write_instances(self, image_id: str, found: Sequence[PredictedInstance]) -> None:
        """Writes the objects of an image."""
        classes = self.classes("instance").classes
        rows = [
            {
                "image_id": stored_id(image_id),
                "category_id": classes[one.category].id,
                "segmentation": one.rle,
                "score": float(one.score),
            }
            for one in found
        ]
        self._write_entry("instance", image_id, rows)

    def finish(self, tasks: Sequence[str], image_ids: Sequence[str]) -> None:
        """Writes the JSON files of all images, which every process has written its share of."""
        if "panoptic" in tasks:
            entries = [self._read_entry("panoptic", image_id) for image_id in image_ids]
            write_panoptic_json(self._folder / "panoptic.json", entries, self.classes("panoptic"))
        if "instance" in tasks:
            found = [self._read_entry("instance", image_id) for image_id in image_ids]
            text = json.dumps([row for rows in found for row in rows])
            path = self._folder / "instance.json"
            write_text_whole(path, text)

    def _name(self, image_id: str) -> str:
        """Returns the name of an image without its ending; its id where it is in no file."""
        if self._benchmark.read_image is not None:
            return image_id.replace("/", "_")
        return self._benchmark.images[image_id].stem

    def _entry_path(self, task: str, image_id: str) -> pathlib.Path:
        return self._folder / f"{task}_entries" / f"{self._name(image_id)}.json"

    def _write_entry(self, task: str, image_id: str, entry: Any) -> None:
        path, text = self._entry_path(task, image_id), json.dumps(entry)
        make_folder(path.parent)
        write_text_whole(path, text)

    def _read_entry(self, task: str, image_id: str) -> Any:
        path = self._entry_path(task, image_id)
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path}, what was predicted on image {image_id!r}, is missing or damaged: delete "
                "the folder of the results to score all images again."
            ) from error


def stored_id(image_id: str) -> int | str:
    """Returns an id as COCO's files have it: numbers as numbers."""
    return int(image_id) if image_id.isdecimal() and str(int(image_id)) == image_id else image_id
