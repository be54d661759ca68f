"""Cuts drives into parts that give masks, words, or nothing but a judgement."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Integer, UInt8
from PIL import Image

from uniovseg_jax.image_io import read_image, read_labels

# The kinds of blocks, one after the other along a drive.
_KINDS = ("words", "masks", "words", "masks", "held_back")


@dataclasses.dataclass(frozen=True)
class CutOptions:
    """How photographs are cut.

    Attributes:
      names: Of the labels 0, 1, ...; other labels are void.
      block: Frames of a block.
      gap: Frames that are dropped at the start of every block, so that no two kinds are neighbours.
      least_share: Share of a quarter's pixels from which a class is one of its words.
      all_as: A kind that all frames are of, without gaps; None divides them among the kinds.
    """

    names: Sequence[str]
    block: int = 20
    gap: int = 2
    least_share: float = 0.01
    all_as: str | None = None


def split_blocks(stems: Sequence[str], options: CutOptions) -> dict[str, list[str]]:
    """Divides the frames of drives among the kinds.

    Args:
      stems: File names without their endings; what stands before the first `_` names the drive, and
        within one they are in the order of time.
      options: Length and distance of blocks.

    Returns:
      Frames by kind: `words`, `masks` and `held_back`, or `options.all_as`.
    """
    if options.all_as is not None:
        return {options.all_as: sorted(stems)}
    drives: dict[str, list[str]] = {}
    for stem in sorted(stems):
        drives.setdefault(stem.split("_")[0], []).append(stem)
    found: dict[str, list[str]] = {kind: [] for kind in dict.fromkeys(_KINDS)}
    number = 0
    for frames in drives.values():
        for start in range(0, len(frames), options.block):
            kind = _KINDS[number % len(_KINDS)]
            found[kind] += frames[start : start + options.block][options.gap :]
            number += 1
    return found


def words_of(labels: Integer[np.ndarray, "h w"], options: CutOptions) -> list[str]:
    """Returns the names of the classes that cover enough of an image, in the order of labels."""
    counts = np.bincount(labels.ravel(), minlength=len(options.names))[: len(options.names)]
    return [
        name
        for name, count in zip(options.names, counts, strict=True)
        if count >= options.least_share * labels.size
    ]


def cut_quarters(
    image: UInt8[np.ndarray, "h w 3"], labels: Integer[np.ndarray, "h w"]
) -> Iterator[tuple[UInt8[np.ndarray, "h2 w2 3"], Integer[np.ndarray, "h2 w2"]]]:
    """Yields the four quarters, row by row."""
    h, w = labels.shape[0] // 2, labels.shape[1] // 2
    for y in (0, h):
        for x in (0, w):
            yield image[y : y + h, x : x + w], labels[y : y + h, x : x + w]


def cut_drives(
    images: pathlib.Path, labels: pathlib.Path, output: pathlib.Path, options: CutOptions
) -> dict[str, int]:
    """Writes quarters of the training photographs by kind, each in its own folder.

    Every kind is a dataset that `benchmarks.named.open_folder` reads: images, labels and
    `names.txt`. `words` and `held_back` have `captions.jsonl` besides. Training reads the labels of
    `masks` without their names and those of `words` not at all.

    Args:
      images: Folder of photographs.
      labels: Folder of label maps with the same stems.
      output: A new folder.
      options: How.

    Returns:
      Quarters by kind.

    Raises:
      FileNotFoundError: If there are no photographs.
      ValueError: If the folder is not new, or a label map is missing or of another size.
    """
    stems = {path.stem: path for path in images.glob("*") if path.suffix in (".jpg", ".png")}
    if not stems:
        raise FileNotFoundError(f"{images} holds no .jpg or .png; expected photographs.")
    if output.exists():
        raise ValueError(f"{output} is there already; expected a new folder.")
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    counts = {}
    for kind, frames in split_blocks(list(stems), options).items():
        rows, void = [], set()
        for stem in tqdm.tqdm(frames, kind, mininterval=1.0):
            pairs = _read(stems[stem], labels / f"{stem}.png")
            for number, (pixels, own) in enumerate(cut_quarters(*pairs)):
                name = f"{stem}_{number}"
                _save(pixels, partial / kind / "images" / f"{name}.png")
                _save(own.astype(np.uint8), partial / kind / "labels" / f"{name}.png")
                void |= set(np.unique(own).tolist()) - set(range(len(options.names)))
                caption = ", ".join(words_of(own, options))
                rows.append({"id": name, "image": f"{name}.png", "caption": caption})
        counts[kind] = len(rows)
        lines = [f"{label}:{name}\n" for label, name in enumerate(options.names)]
        lines += [f"{label}:invalid_class_id\n" for label in sorted(void)]
        (partial / kind / "names.txt").write_text("".join(lines))
        if kind in ("words", "held_back"):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (partial / kind / "captions.jsonl").write_text(text)
    partial.rename(output)
    return counts


def _read(image: pathlib.Path, labels: pathlib.Path) -> tuple[Any, Any]:
    if not labels.is_file():
        raise ValueError(f"{image.name} has no label map; expected {labels}.")
    pixels, own = read_image(image), read_labels(labels.read_bytes(), labels.name)
    if pixels.shape[:2] != own.shape:
        raise ValueError(f"{labels} is {own.shape}, its photograph {pixels.shape[:2]}.")
    return pixels, own


def _save(pixels: np.ndarray, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
