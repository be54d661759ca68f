"""Reads what the alignment generator has found: regions and pairs in shards, and what they teach.

    manifest.json       settings, counts, format
    shards/00000.npz    captions, previews, regions, costs, pooled vectors and pairs of some images
    targets/*.npy       what the `pooled` adapter trains on: vectors, entities, target embeddings;
                        and which of the pairs they were made of

A directory gets its name when it is complete (`store_writer`).
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from uniovseg_jax.alignment.pairs import ImageRegions, Pair, describe_pairs
from uniovseg_jax.captions.record import from_json

FORMAT = 4
MANIFEST, SHARDS, TARGETS = "manifest.json", "shards", "targets"
IMAGES_PER_SHARD = 256


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image of a store.

    Attributes:
      regions: Everything that was found.
      pairs: (region, entity) of its pairs.
      preview: A small JPEG file of it.
    """

    regions: ImageRegions
    pairs: Int[np.ndarray, "p 2"]
    preview: bytes


@dataclasses.dataclass(frozen=True)
class Targets:
    """Regions with the embedding that each should get; the arrays stay on disk until they are read.

    Attributes:
      pooled: Vectors per source of the adapter, and `clip`.
      entity: Index into `names`.
      names: Distinct names.
      text: Their unit embeddings.
    """

    pooled: dict[str, Float[np.ndarray, "n _"]]
    entity: Int[np.ndarray, " n"]
    names: tuple[str, ...]
    text: Float[np.ndarray, "m e"]

    def __len__(self) -> int:
        return len(self.entity)

    def examples(self, rows: Int[np.ndarray, "*b"] | int | np.integer) -> dict[str, Any]:
        """Returns a row or several for stage 2: `pooled`, `text`, `entity` and `valid`."""
        return {
            "pooled": {key: np.asarray(values[rows]) for key, values in self.pooled.items()},
            "text": np.asarray(self.text[self.entity[rows]]),
            "entity": np.asarray(self.entity[rows]),
            "valid": np.ones(np.shape(rows), bool),
        }


class PairStore:
    """Reads a finished store.

    Raises:
      FileNotFoundError: If there is no store in the directory.
      ValueError: If it was written in another format.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = pathlib.Path(directory)
        manifest = self.directory / MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(
                f"{self.directory} holds no pair store: {MANIFEST} is not there."
            )
        self.manifest: dict[str, Any] = json.loads(manifest.read_text())
        if self.manifest.get("format") != FORMAT:
            raise ValueError(
                f"{manifest} has format {self.manifest.get('format')}, expected {FORMAT}; build "
                "the store anew."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What made the store."""
        return self.manifest["settings"]

    def targets(self) -> Targets:
        """Opens what the `pooled` adapter trains on."""
        folder = self.directory / TARGETS
        # Plain arrays over mapped files: a row of a memmap costs twice as much.
        arrays = {
            path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in folder.glob("*.npy")
        }
        return Targets(
            pooled={k.split(".", 1)[1]: v for k, v in arrays.items() if k.startswith("pooled.")},
            entity=arrays["entity"],
            names=tuple(json.loads((folder / "names.json").read_text())),
            text=arrays["text"],
        )

    def confident(self) -> Bool[np.ndarray, " p"]:
        """Tells which of the pairs, in the order of `images`, the targets were made of."""
        return np.load(self.directory / TARGETS / "confident.npy")

    def images(self) -> Iterator[StoredImage]:
        """Iterates over the images, shard by shard."""
        for number in range(self.manifest["shards"]):
            yield from read_shard(shard_path(self.directory, number))

    def pairs(self) -> Iterator[Pair]:
        """Iterates over the pairs with their provenance."""
        for image in self.images():
            yield from describe_pairs(image.regions, image.pairs)


def open_store(directory: str | os.PathLike[str], settings: Mapping[str, Any]) -> PairStore | None:
    """Returns the finished store of a directory if the same settings made it, otherwise None."""
    try:
        store = PairStore(directory)
    except (FileNotFoundError, ValueError):
        return None
    # The comparison is one of JSON values, since that is how the settings were kept.
    return store if store.settings == json.loads(json.dumps(dict(settings))) else None


def shard_path(directory: pathlib.Path, number: int) -> pathlib.Path:
    """Returns the file of a shard."""
    return directory / SHARDS / f"{number:05d}.npz"


def read_shard(path: pathlib.Path) -> Iterator[StoredImage]:
    """Cuts the flat arrays of a shard into images."""
    with np.load(path) as file:
        shard = {key: file[key] for key in file}
    scales = int(shard["num_scales"])
    captions = [from_json(line) for line in _texts(shard["captions"])]
    counts = _texts(shard["mask_counts"])
    previews = np.split(shard["previews"], np.cumsum(shard["preview_sizes"])[:-1])
    pooled = {k.split("/", 1)[1]: v for k, v in shard.items() if k.startswith("pooled/")}
    region = pair = cost = row = 0
    for i, caption in enumerate(captions):
        e = len(caption.entities)
        n, p, k = (int(shard[f"{name}_counts"][i]) for name in ("region", "pair", "kept"))
        sizes = shard["mask_sizes"][row : row + k].tolist()
        masks = zip(sizes, counts[row : row + k], strict=True)
        regions = ImageRegions(
            caption=caption,
            scores=shard["scores"][region : region + n],
            costs=shard["costs"][cost : cost + scales * n * e].reshape(scales, n, e),
            kept=shard["kept"][row : row + k],
            masks=tuple({"size": size, "counts": text} for size, text in masks),
            pooled={key: values[row : row + k] for key, values in pooled.items()},
        )
        yield StoredImage(regions, shard["pairs"][pair : pair + p], previews[i].tobytes())
        region, pair, cost, row = region + n, pair + p, cost + scales * n * e, row + k


def _texts(joined: np.ndarray) -> list[str]:
    """Splits what `store_writer` has joined by line ends."""
    return joined.tobytes().decode("utf-8").split("\n")
