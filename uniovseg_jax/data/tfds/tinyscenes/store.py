"""Renders the parts of a world to disk once, and reads them back by index."""

import contextlib
import functools
import io
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import tqdm
from PIL import Image

from uniovseg_jax.data.tfds.tinyscenes import records
from uniovseg_jax.data.tfds.tinyscenes.scenes import PARTS
from uniovseg_jax.locks import one_at_a_time

if TYPE_CHECKING:  # tfds is imported only where a part is rendered or read
    from uniovseg_jax.data.tfds.tinyscenes.builder import TinyscenesConfig

VERSION = "1.0.0"


def prepare(
    data_dir: str | os.PathLike[str],
    seed: int,
    parts: tuple[str, ...] | None = None,
    sizes: dict[str, dict[str, int]] | None = None,
    progress: bool = True,
    num_workers: int = 2,
) -> pathlib.Path:
    """Renders the parts of a world that are not there yet.

    A part appears whole or not at all (tfds writes to a temporary folder and renames it), so a
    killed run is repeated by running it again. Of several processes one renders, the others wait.

    Args:
      data_dir: Where worlds are kept; each seed has its own folder in it.
      seed: The world, 0 or more.
      parts: Which of `web`, `image_mask`, `image_text`, `panoptic`; None for those of `sizes`.
      sizes: Pictures per part and split; `builder.SIZES` when None.
      progress: Whether to show progress bars.
      num_workers: Rendering processes.

    Returns:
      The folder of the world, for `load_source` and `load_oracle`.

    Raises:
      ValueError: If the seed is negative, a part is unknown, or a part is there already with
        other sizes.
    """
    from uniovseg_jax.data.tfds.tinyscenes import builder as builder_lib

    sizes = builder_lib.SIZES if sizes is None else sizes
    parts = tuple(sizes) if parts is None else parts
    if seed < 0:
        raise ValueError(f"The seed of a tinyscenes world must be 0 or more, got {seed}.")
    root = pathlib.Path(data_dir) / f"tinyscenes_seed{seed}"
    for part in parts:
        if part not in PARTS or part not in sizes:
            raise ValueError(f"Unknown part {part!r} of tinyscenes: expected one of {PARTS}.")
    with one_at_a_time(root):
        _prepare_parts(root, seed, parts, sizes, progress, num_workers)
    return root


def _prepare_parts(
    root: pathlib.Path,
    seed: int,
    parts: tuple[str, ...],
    sizes: dict[str, dict[str, int]],
    progress: bool,
    num_workers: int,
) -> None:
    from uniovseg_jax.data.tfds.tinyscenes import builder as builder_lib

    for part in parts:
        if not _part_dir(root, part).exists():
            config = builder_lib.TinyscenesConfig(
                name=f"{part}_seed{seed}",
                description=f"The {part} part of world {seed}.",
                part=part,
                seed=seed,
                sizes=sizes[part],
                num_workers=num_workers,
                progress=progress,
            )
            _render_part(root, config)
        found = {s: len(load_source(root, part, s)) for s in _splits(root, part)}
        if found != sizes[part]:
            raise ValueError(
                f"{_part_dir(root, part)} holds {found} pictures where {sizes[part]} are asked "
                "for: delete it or name another data folder."
            )
        if part == "image_text":
            for split, size in sizes[part].items():
                _write_oracle(root, seed, split, size, num_workers, progress)


class Source:
    """Random access to one split of one part: `len(source)` and `source[i]`.

    `source[i]` is a dict of `id` (str), `image` (uint8, h w 3) and, by part,
      web: `caption` (str);
      image_mask: `masks`, a list of {"level": object | part | region, "size", "counts"};
      image_text: `raw` and `refined` (str);
      panoptic: `panoptic` (int32 ids, h w; 0 is void) and `segments_info` (list of dicts with
        `id`, `category_id`, `isthing`, `area`, `bbox`, `iscrowd`).
    """

    def __init__(self, source: Any):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside a split of {len(self)} pictures.")
        example: dict[str, Any] = dict(self._source[int(index)])
        for key, value in example.items():
            if key == "image":
                example[key] = _decode_image(value)
            elif key == "panoptic":
                red, green, blue = np.moveaxis(_decode_image(value).astype(np.int32), -1, 0)
                example[key] = red + 256 * green + 65536 * blue
            else:
                text = value.decode("utf-8")
                example[key] = json.loads(text) if key in ("masks", "segments_info") else text
        return example


def load_source(root: str | os.PathLike[str], part: str, split: str) -> Source:
    """Opens one split of a prepared part.

    Args:
      root: What `prepare` returned.
      part: One of `PARTS`.
      split: `train`, `val` or `test`, as far as the part has it.

    Raises:
      FileNotFoundError: If the part is not there.
      ValueError: If the part has no such split.
    """
    import tensorflow_datasets as tfds

    directory = _part_dir(pathlib.Path(root), part)
    if not directory.exists():
        call = f"tinyscenes.prepare('data', 0, ({part!r},))"
        raise FileNotFoundError(
            f"{root} has no part {part!r} of tinyscenes; expected the folder of a world, such as "
            "data/tinyscenes_seed0, which this makes: "
            f'python -c "from uniovseg_jax.data.tfds import tinyscenes; {call}"'
        )
    tfds_builder = tfds.builder_from_directory(str(directory))
    splits = tuple(tfds_builder.info.splits)
    if split not in splits:
        raise ValueError(f"The tinyscenes part {part!r} has no split {split!r}, only {splits}.")
    # Pictures are decoded here, in one line of PIL, so that reading does not depend on OpenCV.
    images = ("image", "panoptic") if part == "panoptic" else ("image",)
    decoders = {key: tfds.decode.SkipDecoding() for key in images}
    # The decorators of tfds hide the signature from pyright.
    return Source(tfds_builder.as_data_source(split, decoders=decoders))  # pyright: ignore


def load_oracle(root: str | os.PathLike[str], split: str = "train") -> dict[str, dict[str, Any]]:
    """Reads the true names of the `image_text` scenes, by scene id; see `records.make_oracle`.

    Only the ceiling (training on true names) and the matching accuracy may call this.
    """
    path = _oracle_path(pathlib.Path(root), split)
    if not path.exists():
        raise FileNotFoundError(f"No oracle file {path}: run `prepare` for image_text first.")
    with path.open(encoding="utf-8") as lines:
        return {entry["id"]: entry for entry in map(json.loads, lines)}


def _render_part(root: pathlib.Path, config: "TinyscenesConfig") -> None:
    import absl.logging
    import tensorflow_datasets as tfds

    from uniovseg_jax.data.tfds.tinyscenes.builder import Tinyscenes

    # tfds counts shards, prints of downloads and warns of configs that it does not know by name;
    # the one thing to see here is our bar that counts pictures (on stderr).
    tfds.disable_progress_bar()
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder = Tinyscenes(data_dir=str(root), config=config, file_format="array_record")
            builder.download_and_prepare()
    finally:
        absl.logging.set_verbosity(verbosity)


def _write_oracle(
    root: pathlib.Path, seed: int, split: str, size: int, num_workers: int, progress: bool
) -> None:
    from uniovseg_jax.data.tfds.tinyscenes.builder import render_all

    path = _oracle_path(root, split)
    if path.exists():
        return
    render = functools.partial(records.make_oracle, seed, split)
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as lines:
        for entry in tqdm.tqdm(
            render_all(render, size, num_workers),
            desc=f"writing the oracle of image_text {split}",
            total=size,
            unit="img",
            disable=not progress,
        ):
            lines.write(json.dumps(entry) + "\n")
    temporary.rename(path)


def _oracle_path(root: pathlib.Path, split: str) -> pathlib.Path:
    return root / f"oracle_image_text_{split}.jsonl"


def _part_dir(root: pathlib.Path, part: str) -> pathlib.Path:
    seed = root.name.removeprefix("tinyscenes_seed")
    return root / "tinyscenes" / f"{part}_seed{seed}" / VERSION


def _splits(root: pathlib.Path, part: str) -> tuple[str, ...]:
    import tensorflow_datasets as tfds

    return tuple(tfds.builder_from_directory(str(_part_dir(root, part))).info.splits)


def _decode_image(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
