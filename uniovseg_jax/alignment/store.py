"""Keeps the output of the alignment generator: regions and pairs in npz shards, and a manifest.

    manifest.json     settings, counts, format
    shard-00000.npz   regions, costs, pooled vectors and pairs of some images
    targets.npz       what the `pooled` adapter trains on: vectors, target embeddings, entity ids;
                      and which of the pairs it was made of

A directory gets its name when it is complete; until then its files lie in a sibling directory.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from uniovseg_jax.alignment.pairs import ImageRegions, Pair, describe_pair

FORMAT = 2
_MANIFEST = "manifest.json"
_TARGETS = "targets.npz"
_IMAGES_PER_SHARD = 256


@dataclasses.dataclass(frozen=True)
class Targets:
    """Regions with the embedding that each should get.

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

    def arrays(self) -> dict[str, Any]:
        """Returns `pooled`, `text` (one target embedding per region) and `entity`, row by row."""
        return {"pooled": self.pooled, "text": self.text[self.entity], "entity": self.entity}


class StoreWriter:
    """Writes one store; use it as a context, `finish` makes the directory appear.

    Args:
      directory: Must not hold anything but an earlier store, which is replaced at the end.
      settings: JSON values that say what made the store; see `open_store`.
    """

    def __init__(self, directory: str | os.PathLike[str], settings: Mapping[str, Any]):
        self._target = pathlib.Path(directory).absolute()
        if self._target.exists() and not (self._target / _MANIFEST).is_file():
            if not self._target.is_dir() or any(self._target.iterdir()):
                raise ValueError(f"{self._target} exists and is no pair store; it is left alone.")
        self._settings = dict(settings)
        self._partial = self._target.with_name(f".{self._target.name}.{uuid.uuid4().hex[:8]}")
        self._waiting: list[tuple[ImageRegions, Int[np.ndarray, "p 2"]]] = []
        self._shards = 0
        self._counts = {"images": 0, "regions": 0, "entities": 0, "pairs": 0}

    def __enter__(self) -> "StoreWriter":
        self._partial.mkdir(parents=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, image: ImageRegions, pairs: Int[np.ndarray, "p 2"]) -> None:
        """Adds one image with its (region, entity) pairs."""
        self._waiting.append((image, pairs))
        self._counts["images"] += 1
        self._counts["regions"] += len(image.masks)
        self._counts["entities"] += len(image.entities)
        self._counts["pairs"] += len(pairs)
        if len(self._waiting) == _IMAGES_PER_SHARD:
            self._write_shard()

    def finish(self, targets: Targets, confident: Bool[np.ndarray, " p"] | None = None) -> None:
        """Writes what is left and lets the directory take its name.

        Args:
          targets: What the adapter trains on.
          confident: Which of the added pairs the targets were made of; None for all.
        """
        if self._waiting:
            self._write_shard()
        if confident is None:
            confident = np.ones(self._counts["pairs"], bool)
        arrays: dict[str, Any] = {f"pooled/{k}": v for k, v in targets.pooled.items()}
        arrays |= {"entity": targets.entity, "text": targets.text, "confident": confident}
        np.savez(self._partial / _TARGETS, names=np.array(targets.names, np.str_), **arrays)
        manifest = {
            "format": FORMAT,
            "settings": self._settings,
            "counts": self._counts,
            "targets": len(targets.entity),
            "shards": self._shards,
        }
        (self._partial / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        shutil.rmtree(self._target, ignore_errors=True)
        os.replace(self._partial, self._target)

    def _write_shard(self) -> None:
        images = [image for image, _ in self._waiting]
        masks = [mask for image in images for mask in image.masks]
        arrays: dict[str, Any] = {
            "image_ids": np.array([image.image_id for image in images], np.str_),
            "entity_counts": np.array([len(image.entities) for image in images], np.int32),
            "entities": np.array([e for image in images for e in image.entities], np.str_),
            "region_counts": np.array([len(image.masks) for image in images], np.int32),
            "mask_sizes": np.array([mask["size"] for mask in masks], np.int32).reshape(-1, 2),
            # As one text: numpy would give every mask the room of the longest, four bytes a letter.
            "mask_counts": np.frombuffer(
                "\n".join(mask["counts"] for mask in masks).encode("ascii"), np.uint8
            ),
            "scores": np.concatenate([image.scores for image in images]),
            "costs": np.concatenate([image.costs.ravel() for image in images]),
            "num_scales": np.int32(images[0].costs.shape[0]),
            "pair_counts": np.array([len(pairs) for _, pairs in self._waiting], np.int32),
            "pairs": np.concatenate([pairs for _, pairs in self._waiting]),
        }
        for key in images[0].pooled:
            arrays[f"pooled/{key}"] = np.concatenate([image.pooled[key] for image in images])
        np.savez(self._partial / f"shard-{self._shards:05d}.npz", **arrays)
        self._shards += 1
        self._waiting = []


class PairStore:
    """Reads a finished store.

    Raises:
      FileNotFoundError: If there is no store in the directory.
      ValueError: If it was written in another format.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = pathlib.Path(directory)
        manifest = self.directory / _MANIFEST
        if not manifest.is_file():
            raise FileNotFoundError(
                f"{self.directory} holds no pair store: {_MANIFEST} is not there."
            )
        self.manifest: dict[str, Any] = json.loads(manifest.read_text())
        if self.manifest.get("format") != FORMAT:
            raise ValueError(
                f"{manifest} has format {self.manifest.get('format')}, expected {FORMAT}."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What made the store."""
        return self.manifest["settings"]

    def targets(self) -> Targets:
        """Reads what the `pooled` adapter trains on."""
        with np.load(self.directory / _TARGETS) as file:
            return Targets(
                pooled={k.split("/", 1)[1]: file[k] for k in file if k.startswith("pooled/")},
                entity=file["entity"],
                names=tuple(str(name) for name in file["names"]),
                text=file["text"],
            )

    def arrays(self) -> dict[str, Any]:
        """Returns the training arrays `pooled`, `text` and `entity`, one row per target."""
        return self.targets().arrays()

    def confident(self) -> Bool[np.ndarray, " p"]:
        """Tells which of the pairs, in the order of `images`, the targets were made of."""
        with np.load(self.directory / _TARGETS) as file:
            return file["confident"]

    def images(self) -> Iterator[tuple[ImageRegions, Int[np.ndarray, "p 2"]]]:
        """Iterates over images with their (region, entity) pairs, shard by shard."""
        for index in range(self.manifest["shards"]):
            with np.load(self.directory / f"shard-{index:05d}.npz") as file:
                yield from _split_shard({key: file[key] for key in file})

    def pairs(self) -> Iterator[Pair]:
        """Iterates over the pairs with their provenance."""
        for image, pairs in self.images():
            for region, entity in pairs.tolist():
                yield describe_pair(image, region, entity)


def open_store(directory: str | os.PathLike[str], settings: Mapping[str, Any]) -> PairStore | None:
    """Returns the finished store of a directory if the same settings made it, otherwise None."""
    try:
        store = PairStore(directory)
    except (FileNotFoundError, ValueError):
        return None
    # The comparison is one of JSON values, since that is how the settings were kept.
    return store if store.settings == json.loads(json.dumps(dict(settings))) else None


def region_vectors(image: ImageRegions, region: int) -> dict[str, Float[np.ndarray, " _"]]:
    """Returns copies of one region's pooled vectors, which do not keep the image alive."""
    return {key: values[region].copy() for key, values in image.pooled.items()}


def make_targets(
    rows: Sequence[tuple[dict[str, Float[np.ndarray, " _"]], str]],
    names: Sequence[str],
    text: Float[np.ndarray, "m e"],
) -> Targets:
    """Gathers (pooled vectors, name) rows; `names` are distinct, `text` has one row for each."""
    index = {name: i for i, name in enumerate(names)}
    return Targets(
        pooled={key: np.stack([vectors[key] for vectors, _ in rows]) for key in rows[0][0]},
        entity=np.array([index[name] for _, name in rows], np.int32),
        names=tuple(names),
        text=text,
    )


def _split_shard(
    shard: dict[str, np.ndarray],
) -> Iterator[tuple[ImageRegions, Int[np.ndarray, "p 2"]]]:
    """Cuts the flat arrays of a shard into images."""
    scales = int(shard["num_scales"])
    mask_counts = shard["mask_counts"].tobytes().decode("ascii").split("\n")
    pooled = {k.split("/", 1)[1]: v for k, v in shard.items() if k.startswith("pooled/")}
    entity = region = pair = cost = 0
    for i, image_id in enumerate(shard["image_ids"].tolist()):
        e, n, p = (int(shard[f"{k}_counts"][i]) for k in ("entity", "region", "pair"))
        sizes = shard["mask_sizes"][region : region + n].tolist()
        counts = mask_counts[region : region + n]
        image = ImageRegions(
            image_id=image_id,
            entities=tuple(shard["entities"][entity : entity + e].tolist()),
            masks=tuple({"size": s, "counts": c} for s, c in zip(sizes, counts, strict=True)),
            scores=shard["scores"][region : region + n],
            costs=shard["costs"][cost : cost + scales * n * e].reshape(scales, n, e),
            pooled={key: values[region : region + n] for key, values in pooled.items()},
        )
        yield image, shard["pairs"][pair : pair + p]
        entity, region, pair, cost = entity + e, region + n, pair + p, cost + scales * n * e
