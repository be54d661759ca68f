"""Running a preparation: check, make, and say what was done."""

import dataclasses
import functools
import json
import pathlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tqdm

from uniovseg_jax.benchmarks.preparation import (
    ade20k,
    ade20k_full,
    cityscapes,
    coco,
    pascal_context,
    voc,
)
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe
from uniovseg_jax.benchmarks.preparation_record import Note
from uniovseg_jax.benchmarks.split_sizes import LONG_NAMES
from uniovseg_jax.data.workers import map_in_order
from uniovseg_jax.files import write_whole
from uniovseg_jax.locks import held_alone

_RECIPES = {
    recipe.name: recipe
    for recipe in (
        coco.RECIPE,
        ade20k.RECIPE,
        ade20k_full.make_recipe(),
        pascal_context.RECIPE,
        voc.RECIPE,
        cityscapes.RECIPE,
    )
}
NAMES = tuple(_RECIPES)
# What `write_whole` leaves where the machine stops.
_LEFT_BEHIND = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.\w+)?")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What a preparation ends with.

    Attributes:
      images: How many the split has.
      written: Files that were made.
      kept: Files that were there and right.
      settings: By which choices the files were made.
    """

    images: int
    written: int
    kept: int
    settings: dict[str, Any]


def find_recipe(name: str, short_side: int | None = 512) -> Recipe:
    """Returns the recipe of a dataset.

    Args:
      name: One of `NAMES`.
      short_side: Of `ade20k_full`; see there.

    Raises:
      ValueError: If there is none of that name.
    """
    if name not in _RECIPES:
        raise ValueError(f"Unknown dataset {name!r}; expected one of {', '.join(NAMES)}.")
    return ade20k_full.make_recipe(short_side) if name == "ade20k_full" else _RECIPES[name]


def prepare(
    recipe: Recipe,
    root: pathlib.Path,
    split: str = "val",
    expected: int | None = None,
    num_workers: int = 1,
) -> Prepared:
    """Makes what a dataset's owners leave to its users; shows a progress bar.

    Every file is written as a whole. A preparation can be repeated: a file that is what it should
    be is left alone. Documents about the whole split, among them `prepared_<split>.json`, are
    written last and removed before any other file changes, so that they are a sign of completeness.
    From the first file that changes until then `unfinished_<split>.txt` lies there, with which no
    benchmark is opened.

    Args:
      recipe: Of the dataset.
      root: Data root; folders of datasets are in it.
      split: `train` or `val`.
      expected: How many images there should be; None for those of the real dataset.
      num_workers: Processes that read and write; below 2 the calling process does.

    Returns:
      Counts.

    Raises:
      FileNotFoundError: If something that has to be downloaded is missing, naming the first one.
      ValueError: If an input is wrong, naming the first one; if counts are; if a folder to write to
        holds other files; or if another process prepares the same dataset.
      OSError: If the root is no folder or something cannot be written.
    """
    if not root.is_dir():
        raise NotADirectoryError(f"There is no folder {root}; expected the one with all datasets.")
    if split not in LONG_NAMES:
        raise ValueError(f"Unknown split {split!r}; expected one of {', '.join(LONG_NAMES)}.")
    plan = recipe.plan(root, split)
    expected = plan.expected if expected is None else expected
    for item in plan.items:
        for path in item.inputs:
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path}.")
    if len(plan.items) != expected:
        raise ValueError(
            f"{recipe.name} {split} has {len(plan.items)} images in {root}, expected {expected}: "
            "was everything unpacked?"
        )
    folder, title = root / recipe.folder, f"{recipe.name} {split}"
    # The record last of all.
    last = (*plan.documents, folder / f"prepared_{split}.json")
    # What is whole already stays usable, whatever a repetition ends in.
    note = Note(folder, split, _arguments(recipe, plan, split))
    withdraw = functools.partial(_withdraw, note, last)
    if not any(item.outputs for item in plan.items):
        return _run(plan, withdraw, title, num_workers)[0]
    with held_alone(folder, "preparation"):
        _clear(plan.items, last)
        prepared, entries = _run(plan, withdraw, title, num_workers)
        documents = [*plan.finish(entries), {"images": prepared.images, **plan.settings}]
        written = sum(
            _put(path, json.dumps(document, ensure_ascii=False).encode(), note.leave)
            for path, document in zip(last, documents, strict=True)
        )
        note.remove()
    return dataclasses.replace(
        prepared,
        written=prepared.written + written,
        kept=prepared.kept + len(last) - written,
    )


def _arguments(recipe: Recipe, plan: Plan, split: str) -> str:
    own = [f"--{name}={value}" for name, value in plan.settings.items() if name == "short_side"]
    return " ".join([recipe.name, f"--split={split}", *own])


def _run(
    plan: Plan, withdraw: Callable[[], None], title: str, num_workers: int
) -> tuple[Prepared, list[Any]]:
    """Does all images; returns counts without documents, and what documents are made of."""
    written, entries = 0, []
    work = functools.partial(_make_files, plan.make, withdraw)
    with tqdm.tqdm(
        desc=title,
        total=len(plan.items),
        unit="img",
        mininterval=1.0 if sys.stderr.isatty() else 60.0,
    ) as bar:
        for count, entry in map_in_order(work, plan.items, num_workers):
            written += count
            entries.append(entry)
            bar.update()
    num_files = sum(len(item.outputs) for item in plan.items)
    kept = num_files - written
    return Prepared(len(plan.items), written, kept, dict(plan.settings)), entries


def _make_files(
    make: Callable[[Item], tuple[Sequence[bytes], Any]],
    withdraw: Callable[[], None],
    item: Item,
) -> tuple[int, Any]:
    """Makes the files of one image; returns how many were not there yet, and its entry."""
    contents, entry = make(item)
    pairs = zip(item.outputs, contents, strict=True)
    return sum(_put(path, content, withdraw) for path, content in pairs), entry


def _put(path: pathlib.Path, content: bytes, before: Callable[[], None]) -> bool:
    """Writes a file unless it is there, after a call; returns whether it was written."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    before()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return True


def _withdraw(note: Note, last: Sequence[pathlib.Path]) -> None:
    """Takes the signs of completeness down, before a file changes."""
    note.leave()
    for document in last:
        document.unlink(missing_ok=True)


def _clear(items: Sequence[Item], last: Sequence[pathlib.Path]) -> None:
    """Removes what killed preparations left; refuses files that readers would take for labels.

    Folders that hold inputs too are not looked at for others.
    """
    ours = {path for item in items for path in item.outputs}
    own = {path.parent for path in ours} - {path.parent for item in items for path in item.inputs}
    for folder in sorted({path.parent for path in (*ours, *last)}):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _LEFT_BEHIND.fullmatch(path.name):
                path.unlink()
            elif folder in own and path not in ours and not path.name.startswith("."):
                raise ValueError(f"{path} is of no image of this split; move it away.")
