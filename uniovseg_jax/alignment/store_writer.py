"""Writes a pair store shard by shard; a run that was ended goes on with the shards that lack."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool, Float

from uniovseg_jax.alignment import store as store_lib
from uniovseg_jax.alignment.store import StoredImage, read_shard, shard_path
from uniovseg_jax.captions.record import to_json
from uniovseg_jax.files import write_text_whole, write_whole
from uniovseg_jax.locks import LOCK_FILE, held_alone
from uniovseg_jax.settings import first_difference
from uniovseg_jax.text_encoder import EmbedTexts

_SETTINGS = "settings.json"

# Pooled vectors of a region by source, and the name that it should get.
Row = tuple[dict[str, Float[np.ndarray, " _"]], str]


class StoreWriter:
    """Writes one store into a folder beside its own, which gets its name when it is complete."""

    def __init__(self, directory: str | os.PathLike[str], settings: Mapping[str, Any]):
        """Looks at what is there.

        Args:
          directory: Must not hold anything but an earlier store, which is replaced at the end.
          settings: JSON values that say what makes the store; see `store.open_store`.

        Raises:
          ValueError: If the directory holds something else.
        """
        self._target = pathlib.Path(directory).absolute()
        if self._target.exists() and not (self._target / store_lib.MANIFEST).is_file():
            if not self._target.is_dir() or any(self._target.iterdir()):
                raise ValueError(f"{self._target} exists and is no pair store; it is left alone.")
        self._settings = json.loads(json.dumps(dict(settings)))
        self._partial = self._target.with_name(f".{self._target.name}.partial")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps others out; removes the beginnings of a store of other settings.

        Of several processes that write together, only the first one does this.

        Raises:
          ValueError: If another process writes the same store.
        """
        with held_alone(self._partial, "matching"):
            kept = self._partial / _SETTINGS
            made = json.loads(kept.read_text()) if kept.is_file() else None
            if made is not None and made != self._settings:
                other = first_difference(made, self._settings)
                logging.warning("%s was begun with other settings: %s.", self._partial, other)
            if made != self._settings:
                for path in self._partial.iterdir():
                    if path.name != LOCK_FILE:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                text = json.dumps(self._settings)
                write_text_whole(kept, text)
            shards = self._partial / store_lib.SHARDS
            shards.mkdir(exist_ok=True)
            for path in shards.glob(".*"):  # Of a run that was killed while it wrote.
                path.unlink()
            yield

    def has_shard(self, number: int) -> bool:
        """Tells whether a shard was written, maybe by a run that was ended."""
        return shard_path(self._partial, number).is_file()

    def write_shard(self, number: int, images: Sequence[StoredImage]) -> None:
        """Writes some images, at least one."""
        regions = [image.regions for image in images]
        masks = [mask for image in regions for mask in image.masks]
        sizes = [len(image.preview) for image in images]
        arrays: dict[str, Any] = {
            # As one text: numpy would give every one the room of the longest, 4 bytes a letter.
            "captions": _joined(to_json(image.caption) for image in regions),
            "mask_counts": _joined(mask["counts"] for mask in masks),
            "mask_sizes": np.array([mask["size"] for mask in masks], np.int32).reshape(-1, 2),
            "previews": np.frombuffer(b"".join(image.preview for image in images), np.uint8),
            "preview_sizes": np.array(sizes, np.int64),
            "scores": np.concatenate([image.scores for image in regions]),
            "costs": np.concatenate([image.costs.ravel() for image in regions]),
            "num_scales": np.int32(regions[0].costs.shape[0]),
            "pairs": np.concatenate([image.pairs for image in images]),
            "kept": np.concatenate([image.kept for image in regions]),
            "region_counts": np.array([len(image.scores) for image in regions], np.int32),
            "pair_counts": np.array([len(image.pairs) for image in images], np.int32),
            "kept_counts": np.array([len(image.kept) for image in regions], np.int32),
        }
        for key in regions[0].pooled:
            arrays[f"pooled/{key}"] = np.concatenate([image.pooled[key] for image in regions])
        write_whole(shard_path(self._partial, number), lambda path: np.savez(path, **arrays))

    def images(self, shards: int) -> Iterator[StoredImage]:
        """Iterates over what was written."""
        for number in range(shards):
            yield from read_shard(shard_path(self._partial, number))

    def finish(
        self,
        shards: int,
        rows: Iterable[Row],
        num_rows: int,
        embed: EmbedTexts,
        confident: Bool[np.ndarray, " p"],
        counts: Mapping[str, int],
    ) -> None:
        """Writes what an adapter trains on and lets the directory take its name.

        Args:
          shards: How many were written.
          rows: What the adapter trains on.
          num_rows: Their number, at least one.
          embed: Unit embeddings of names.
          confident: Which of the pairs the rows were made of.
          counts: For the manifest.
        """
        targets = self._partial / store_lib.TARGETS
        shutil.rmtree(targets, ignore_errors=True)
        targets.mkdir()
        names = _write_rows(targets, rows, num_rows)
        np.save(targets / "text.npy", embed(names))
        np.save(targets / "confident.npy", confident)
        (targets / "names.json").write_text(json.dumps(names))
        manifest = {
            "format": store_lib.FORMAT,
            "settings": self._settings,
            "counts": dict(counts),
            "targets": num_rows,
            "shards": shards,
        }
        (self._partial / store_lib.MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        # Settings and lock go along: ended here, the next run finds all that this one made.
        earlier = self._target.with_name(f".{self._target.name}.earlier")
        shutil.rmtree(earlier, ignore_errors=True)
        if self._target.exists():
            os.replace(self._target, earlier)
        os.replace(self._partial, self._target)
        for name in (_SETTINGS, LOCK_FILE):
            (self._target / name).unlink(missing_ok=True)
        shutil.rmtree(earlier, ignore_errors=True)


def write_targets(
    directory: str | os.PathLike[str],
    settings: Mapping[str, Any],
    rows: Sequence[Row],
    embed: EmbedTexts,
) -> store_lib.PairStore:
    """Writes a store that holds targets and no images."""
    writer = StoreWriter(directory, settings)
    with writer.held():
        writer.finish(0, rows, len(rows), embed, np.ones(len(rows), bool), {})
    return store_lib.PairStore(directory)


def _write_rows(folder: pathlib.Path, rows: Iterable[Row], count: int) -> list[str]:
    """Writes vectors and entities row by row; returns the distinct names in their order."""
    index: dict[str, int] = {}
    arrays: dict[str, np.memmap] = {}
    entity = np.zeros(count, np.int32)
    for row, (vectors, name) in enumerate(rows):
        for key, vector in vectors.items():
            if key not in arrays:
                shape = (count, *vector.shape)
                arrays[key] = np.lib.format.open_memmap(
                    folder / f"pooled.{key}.npy", "w+", vector.dtype, shape
                )
            arrays[key][row] = vector
        entity[row] = index.setdefault(name, len(index))
    for array in arrays.values():
        array.flush()
    np.save(folder / "entity.npy", entity)
    return list(index)


def _joined(texts: Iterable[str]) -> np.ndarray:
    return np.frombuffer("\n".join(texts).encode("utf-8"), np.uint8)
