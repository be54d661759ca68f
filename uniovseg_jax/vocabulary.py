"""Words as people give them: categories with names and synonyms, things and stuff."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

# `12:` before the names of a category, as other projects write their class lists.
_ID = re.compile(r"\s*(\d+)\s*:(.*)")

# What published lists name the ids that are not in use.
_PLACEHOLDER = "invalid_class_id"


@dataclasses.dataclass(frozen=True)
class Category:
    """One class of a vocabulary.

    Attributes:
      names: The label, followed by its synonyms.
      is_thing: Whether instances are told apart; stuff is one segment per image.
      is_background: Whether regions of this class are thrown away.
    """

    names: tuple[str, ...]
    is_thing: bool = True
    is_background: bool = False

    @property
    def label(self) -> str:
        """The name shown to people."""
        return self.names[0]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The classes that regions are told apart by; background classes come last.

    Published class lists give some names to several classes; the first of them wins a region.

    Raises:
      ValueError: If there is no class besides background, or a name is empty.
    """

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if all(category.is_background for category in self.categories):
            raise ValueError("The vocabulary is empty: expected at least one name.")
        background = False
        for category in self.categories:
            if background and not category.is_background:
                raise ValueError("Background categories come after all others.")
            background = category.is_background
            if not category.names:
                raise ValueError("The vocabulary has a category without a name.")
            if not all(_normalise(name) for name in category.names):
                raise ValueError(
                    f"The vocabulary has an empty name in {'|'.join(category.names)!r}."
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """First name of every category."""
        return tuple(category.label for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, category by category."""
        return tuple(name for category in self.categories for name in category.names)

    @property
    def name_to_class(self) -> Int[np.ndarray, " m"]:
        """Index of the category of every entry of `names`."""
        counts = [len(category.names) for category in self.categories]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def num_foreground(self) -> int:
        """Number of categories that are not background."""
        return sum(not category.is_background for category in self.categories)


def _normalise(name: str) -> str:
    return " ".join(name.split()).casefold()


def _split(names: str | Iterable[str]) -> list[tuple[str, ...]]:
    """Splits at commas (one string only) into categories and at bars into synonyms."""
    if isinstance(names, str):
        names = names.split(",") if names.strip() else []
    return [tuple(" ".join(part.split()) for part in entry.split("|")) for entry in names]


@dataclasses.dataclass(frozen=True)
class ClassLine:
    """One line of a class list.

    Attributes:
      id: The number before the names; None if lines have none.
      names: Those of the class, each once.
    """

    id: int | None
    names: tuple[str, ...]

    @property
    def is_placeholder(self) -> bool:
        """Whether it says that its id is not in use."""
        return self.names == (_PLACEHOLDER,)


def parse_vocabulary(
    names: str | Iterable[str],
    stuff: str | Iterable[str] = (),
    background: str | Iterable[str] = (),
) -> Vocabulary:
    """Reads a vocabulary as people type it.

    Args:
      names: Categories, as a list or as one string with commas; synonyms of a category are
        joined by `|`, the first one is its label: `"grass,red ball|red sphere"`.
      stuff: Those names (any synonym will do) that are stuff; all others are things.
      background: Names of what is to be left out; not part of `names`.

    Raises:
      ValueError: If the vocabulary is empty, a name is empty or occurs twice, or a stuff name is
        not among the names.
    """
    vocabulary = _assemble(_split(names), stuff, background)
    seen: set[str] = set()
    for name in vocabulary.names:
        if _normalise(name) in seen:
            raise ValueError(f"The name {name!r} occurs twice in the vocabulary.")
        seen.add(_normalise(name))
    return vocabulary


def read_vocabulary(
    path: str | os.PathLike[str],
    stuff: str | Iterable[str] = (),
    background: str | Iterable[str] = (),
) -> Vocabulary:
    """Reads a class list with one category per line, as a plain list or as other projects do.

    A line is `name`, `name1,name2` or `id:name1,name2`; the first name is the label, and `|`
    separates names as well. Ids only have to differ: categories keep the order of their lines.
    Empty lines are skipped, and so is `invalid_class_id`, which published lists write for ids that
    are not in use. A name that a category repeats counts once.

    Args:
      path: A text file in UTF-8.
      stuff: Those names that are stuff, as `parse_vocabulary` takes them.
      background: Names of what is to be left out.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it holds no category, only some of the lines have an id, an id occurs twice, a
        name is empty, or a stuff name is not among the names.
    """
    names = [line.names for line in read_class_lines(path) if not line.is_placeholder]
    if not names:
        raise ValueError(f"{path} is empty; expected one category per line.")
    return _assemble(names, stuff, background)


def read_class_lines(path: str | os.PathLike[str]) -> list[ClassLine]:
    """Reads the lines that `read_vocabulary` describes, empty ones left out.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If only some of the lines have an id, an id occurs twice, or a name is empty.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; expected a class list.")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}.") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _ID.fullmatch(line)
        names = [" ".join(name.split()) for name in re.split("[,|]", match[2] if match else line)]
        if not all(names):
            raise ValueError(f"{file}, line {number}: an empty name in {line.strip()!r}.")
        found.append(ClassLine(int(match[1]) if match else None, distinct_names(names)))
    ids = [line.id for line in found if line.id is not None]
    if ids and (len(ids) != len(found) or len(set(ids)) != len(ids)):
        raise ValueError(f"{file}: expected an id of its own on every line, or on none.")
    return found


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Leaves out names that repeat an earlier one but for case and blanks."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(_normalise(name), name)
    return tuple(first.values())


def _assemble(
    entries: Sequence[tuple[str, ...]],
    stuff: str | Iterable[str],
    background: str | Iterable[str],
) -> Vocabulary:
    """Makes things of all entries but those that one of the stuff names belongs to."""
    stuff_names = [name for entry in _split(stuff) for name in entry]
    known = {_normalise(name) for entry in entries for name in entry}
    for name in stuff_names:
        if _normalise(name) not in known:
            raise ValueError(f"The stuff name {name!r} is not in the vocabulary.")
    stuff_keys = {_normalise(name) for name in stuff_names}
    categories = [
        Category(entry, is_thing=stuff_keys.isdisjoint(_normalise(name) for name in entry))
        for entry in entries
    ]
    categories += [Category(entry, False, is_background=True) for entry in _split(background)]
    return Vocabulary(tuple(categories))
