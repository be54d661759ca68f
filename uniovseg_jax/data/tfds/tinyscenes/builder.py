"""The tfds builder of tinyscenes: renders from a seed into array_record, without TensorFlow."""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
import tqdm

from uniovseg_jax.data.tfds.tinyscenes import records
from uniovseg_jax.data.tfds.tinyscenes.scenes import PARTS, SCENE_SIDE, WEB_SIDE

Sizes = dict[str, dict[str, int]]

# Pictures per part and split; the parts are disjoint by their random streams.
SIZES: Sizes = {
    "web": {"train": 60_000, "val": 1_000},
    "image_mask": {"train": 20_000, "val": 200},
    "image_text": {"train": 4_000},
    "panoptic": {"val": 200, "test": 400},
}
# For the tiny run of every phase and for tests: rendered in about two seconds.
TINY_SIZES: Sizes = {
    "web": {"train": 256, "val": 64},
    "image_mask": {"train": 64, "val": 16},
    "image_text": {"train": 48},
    "panoptic": {"val": 8, "test": 12},
}
_CHUNK = 64  # scenes that a worker renders at a time
# Below this many scenes the start of the workers costs more than they save.
_MIN_FOR_WORKERS = 2_000


@dataclasses.dataclass(kw_only=True)
class TinyscenesConfig(tfds.core.BuilderConfig):
    """One part of one world.

    Attributes:
      part: One of `PARTS`.
      seed: The world.
      sizes: Number of pictures per split.
      num_workers: Processes that render; below 2 the calling process does.
      progress: Whether to show a progress bar.
    """

    part: str
    seed: int = 0
    sizes: dict[str, int]
    num_workers: int = 2
    progress: bool = True


class Tinyscenes(tfds.core.GeneratorBasedBuilder):
    """Scenes of things over stuff, in four disjoint parts."""

    name = "tinyscenes"
    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so tfds has no checksums to look for beside the code; its search needs
    # importlib_resources, which it does not install on current Pythons.
    code_path = None
    BUILDER_CONFIGS = [
        TinyscenesConfig(name=part, description=f"The {part} part.", part=part, sizes=SIZES[part])
        for part in PARTS
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        part = self._config.part
        side = WEB_SIDE if part == "web" else SCENE_SIDE
        image = tfds.features.Image(shape=(side, side, 3), encoding_format="jpeg")
        text = tfds.features.Text()
        by_part: dict[str, dict[str, Any]] = {
            "web": {"caption": text},
            # JSON: a list of {"level": object | part | region, "size": [h, w], "counts": str}.
            "image_mask": {"masks": text},
            "image_text": {"raw": text, "refined": text},
            "panoptic": {
                "panoptic": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                "segments_info": text,
            },
        }
        features = {"id": text, "image": image, **by_part[part]}
        return tfds.core.DatasetInfo(
            builder=self,
            description="An embedded world for open-vocabulary segmentation; see its modules.",
            features=tfds.features.FeaturesDict(features),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in self._config.sizes}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self._config
        size = config.sizes[split]
        render = functools.partial(records.make_record, config.seed, config.part, split)
        bar = tqdm.tqdm(
            render_all(render, size, config.num_workers),
            desc=f"rendering {config.part} {split}",
            total=size,
            unit="img",
            disable=not config.progress,
        )
        for record in bar:
            yield record["id"], record

    @property
    def _config(self) -> TinyscenesConfig:
        assert isinstance(self.builder_config, TinyscenesConfig)
        return self.builder_config


def render_all(render: Any, size: int, num_workers: int) -> Iterator[dict[str, Any]]:
    """Yields `render(0) ... render(size - 1)` in order, from several processes if it pays.

    The workers are spawned, not forked: a forked child of a process that runs JAX may hang. A
    script that calls this therefore needs the usual `if __name__ == "__main__"`.
    """
    if num_workers < 2 or size < _MIN_FOR_WORKERS:
        yield from map(render, range(size))
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        # Windows of chunks: `map` over everything would hold all pictures that are not yet read.
        window = _CHUNK * num_workers * 4
        ahead: Iterator[dict[str, Any]] = iter(())
        for start in range(0, size, window):
            indices = range(start, min(start + window, size))
            following = pool.map(render, indices, chunksize=_CHUNK)
            yield from ahead
            ahead = following
        yield from ahead
