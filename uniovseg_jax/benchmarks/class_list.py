"""The classes of a dataset: ids, names and thing flags, facts that come with the package."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib

import numpy as np
from jaxtyping import Bool, Int32

from uniovseg_jax.vocabulary import Category, Vocabulary, distinct_names, read_class_lines

_FOLDER = pathlib.Path(__file__).resolve().parent / "class_lists"
VOID = -1


@dataclasses.dataclass(frozen=True)
class ClassInfo:
    """One class.

    Attributes:
      id: Value in the files of the dataset's owners.
      name: Official name; two classes of a list may share it.
      synonyms: Other official names.
      isthing: Whether instances are told apart; None where the dataset does not say.
      instance_id: Value in ADE20K's instance maps, where the class has instances.
      color: RGB of the dataset, where it defines one.
    """

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    isthing: bool | None = None
    instance_id: int | None = None
    color: tuple[int, int, int] | None = None


@dataclasses.dataclass(frozen=True)
class ClassList:
    """All classes of a benchmark; the place in the list is the index that scores are kept by.

    Attributes:
      name: Of the list.
      classes: In the order of their indices.
      synonym_ids: What published files of synonyms number a class by: `id`, `index`, `index + 1`.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    synonym_ids: str = "id"

    def __len__(self) -> int:
        """Returns the number of classes."""
        return len(self.classes)

    @functools.cached_property
    def index_of(self) -> dict[int, int]:
        """Index by id."""
        return {info.id: index for index, info in enumerate(self.classes)}

    @functools.cached_property
    def is_thing(self) -> Bool[np.ndarray, " t"]:
        """Which classes are things; classes of which the dataset does not say are not."""
        return np.array([bool(info.isthing) for info in self.classes])

    @functools.cached_property
    def sha256(self) -> str:
        """Of ids, names and thing flags in their order: equal where scores can be compared."""
        rows = [(info.id, info.name, info.isthing) for info in self.classes]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def lookup(self, size: int) -> Int32[np.ndarray, " size"]:
        """Returns the index for every label value below `size`, `VOID` for those of no class."""
        table = np.full(size, VOID, np.int32)
        for value, index in self.index_of.items():
            if value < size:
                table[value] = index
        return table

    def numbered_by_index(self) -> "ClassList":
        """Returns the same classes with indices as ids, as several prepared files number them."""
        classes = [dataclasses.replace(info, id=index) for index, info in enumerate(self.classes)]
        return dataclasses.replace(self, classes=tuple(classes))

    def vocabulary(self, synonyms: str | os.PathLike[str] | None = None) -> Vocabulary:
        """Returns the names that regions are compared with, class by class.

        Two classes may share a name, of which the first one wins; the order is that of the indices.

        Args:
          synonyms: File with a line `id:name1,name2` for every class, numbered as `synonym_ids`
            says; where that counts from 1, a line 0 is of no class. Or a .json file with an object
            whose list `classes` has `index`, `prompt_names` and perhaps `id` for every class.
            Without a file the official names are taken.

        Raises:
          FileNotFoundError: If there is no such file.
          ValueError: If it is malformed, has no line for a class or one for an unknown id.
        """
        if synonyms is None:
            names = [distinct_names((info.name, *info.synonyms)) for info in self.classes]
        else:
            path = pathlib.Path(synonyms)
            json_form = path.suffix.lower() == ".json"
            names = self._json_names(path) if json_form else self._published_names(path)
        things = self.is_thing.tolist()
        return Vocabulary(tuple(map(Category, names, things)))

    def _published_names(self, path: str | os.PathLike[str]) -> list[tuple[str, ...]]:
        numbers = {
            "id": [info.id for info in self.classes],
            "index": range(len(self)),
            "index + 1": range(1, len(self) + 1),
        }[self.synonym_ids]
        # 0 says what is unlabelled, or background, where a list counts from 1.
        lines = {
            line.id: line.names
            for line in read_class_lines(path)
            if not line.is_placeholder and (line.id != 0 or 0 in numbers)
        }
        if None in lines:
            raise ValueError(f"{path} has lines without ids; expected `id:name1,name2`.")
        unknown = [number for number in lines if number not in set(numbers)]
        if unknown:
            raise ValueError(
                f"{path} has a line for {unknown[0]}, which is no class of {self.name}; expected "
                f"{len(self)} lines `id:name1,name2`, of which the first is for {numbers[0]}."
            )
        for number, info in zip(numbers, self.classes, strict=True):
            if number not in lines:
                raise ValueError(
                    f"{path} has no line for {number}, {info.name} of {self.name}; expected one "
                    f"for each of the {len(self)} classes."
                )
        return [lines[number] for number in numbers]

    def _json_names(self, path: pathlib.Path) -> list[tuple[str, ...]]:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected a class list.")
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}.") from error
        rows = document.get("classes") if isinstance(document, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f'{path}: expected an object with a list "classes" of objects.')
        by_index = {index: row for row in rows if isinstance(index := row.get("index"), int)}
        if len(rows) != len(self) or by_index.keys() != set(range(len(self))):
            raise ValueError(
                f"{path} has {len(rows)} classes; expected those of {self.name}, with an index "
                f"from 0 to {len(self) - 1} each."
            )
        found = []
        for index, info in enumerate(self.classes):
            row = by_index[index]
            names = row.get("prompt_names")
            if row.get("id", info.id) != info.id:
                raise ValueError(
                    f"{path}, class {index}: id {row['id']}; {info.name} of {self.name} is "
                    f"{info.id}."
                )
            if not isinstance(names, list) or not names or not all(map(_is_name, names)):
                raise ValueError(f'{path}, class {index}: expected names in "prompt_names".')
            found.append(distinct_names(" ".join(name.split()) for name in names))
        return found


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def load_class_list(name: str) -> ClassList:
    """Reads a list that comes with the package.

    Raises:
      ValueError: If there is no such list.
    """
    path = _FOLDER / f"{name}.json"
    if not path.is_file():
        known = sorted(file.stem for file in _FOLDER.glob("*.json"))
        raise ValueError(f"Unknown class list {name!r}; expected one of {', '.join(known)}.")
    document = json.loads(path.read_text(encoding="utf-8"))
    classes = [
        ClassInfo(
            id=row["id"],
            name=row["name"],
            synonyms=tuple(row.get("synonyms", ())),
            isthing=row.get("isthing"),
            instance_id=row.get("instance_id"),
            color=tuple(row["color"]) if "color" in row else None,
        )
        for row in document["classes"]
    ]
    return ClassList(name, tuple(classes), document["synonym_ids"])
