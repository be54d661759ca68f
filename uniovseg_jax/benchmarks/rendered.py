"""The rendered scenes of tinyscenes as a benchmark: the same code as for photographs, any day."""

import functools
import pathlib

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark, LabelMap, TrueInstance
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.benchmarks.segment import Segment, paint_classes
from uniovseg_jax.data.tfds.tinyscenes import JOINT_NAMES, STUFF, load_source
from uniovseg_jax.masks import rle_encode


class _Scenes:
    """Images and truth by id; the last scene is kept, since image and truth are one record."""

    def __init__(self, folder: pathlib.Path, split: str):
        self._records = load_source(str(folder), "panoptic", split)
        self.ids = [f"{index:05d}" for index in range(len(self._records))]
        self._read = functools.lru_cache(maxsize=16)(lambda index: self._records[index])

    def image(self, image_id: str) -> UInt8[np.ndarray, "h w 3"]:
        """Returns a scene."""
        return self._read(int(image_id))["image"]

    def panoptic(self, image_id: str) -> tuple[LabelMap, tuple[Segment, ...]]:
        """Returns the segments of a scene."""
        record = self._read(int(image_id))
        segments = tuple(
            Segment(info["id"], info["category_id"], info["area"], bool(info["iscrowd"]))
            for info in record["segments_info"]
        )
        return record["panoptic"].astype(np.int32), segments

    def semantic(self, image_id: str) -> LabelMap:
        """Returns the class of every pixel."""
        return paint_classes(*self.panoptic(image_id))

    def instances(self, image_id: str) -> tuple[TrueInstance, ...]:
        """Returns the things of a scene."""
        ids, segments = self.panoptic(image_id)
        return tuple(
            TrueInstance(rle_encode(ids == s.id), s.category, float(s.area or 0), s.iscrowd)
            for s in segments
            if JOINT_NAMES[s.category] not in STUFF
        )


def open_tinyscenes(root: pathlib.Path, split: str) -> Benchmark:
    """Opens the part `panoptic` of a world of tinyscenes; its folder is the data root."""
    scenes = _Scenes(root, split)
    infos = [ClassInfo(n, name, isthing=name not in STUFF) for n, name in enumerate(JOINT_NAMES)]
    return Benchmark(
        name="tinyscenes",
        images=dict.fromkeys(scenes.ids, root),
        read_semantic=scenes.semantic,
        read_panoptic=scenes.panoptic,
        read_instances=scenes.instances,
        classes=ClassList("tinyscenes", tuple(infos)),
        resize=(256, 256),
        read_image=scenes.image,
    )
