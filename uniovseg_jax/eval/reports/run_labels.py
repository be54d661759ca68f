"""What runs are called where several stand side by side: their models, and marks of settings."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from uniovseg_jax.eval.from_config import model_name
from uniovseg_jax.eval.run_settings import GetConfig, changed_settings

_DIGITS = 4
_SMALLER = "†"
_SMALLER_NOTE = (
    f"{_SMALLER} not on all images of the published split: on the first ones (limit), or another "
    "number was found; the table of runs says on how many."
)


class RunLabels:
    """Names of models and marks, the same in all tables of a report."""

    def __init__(self, documents: Sequence[Mapping[str, Any]], get_config: GetConfig):
        """Looks at all results, as `results.json` holds them.

        Args:
          documents: Of `find_results`.
          get_config: Of configs/eval.py, to which settings are compared.
        """
        self._names = _names_of_models(documents)
        self._get_config = functools.cache(get_config)
        changes = (self._changes(document) for document in documents)
        numbers = dict.fromkeys(text for text in changes if text)
        self._numbers = {text: number for number, text in enumerate(numbers, 1)}

    def model(self, document: Mapping[str, Any]) -> str:
        """Returns the model, its protocol, and a number where other settings were changed."""
        name = self._names[_place(document)]
        protocol = document["settings"].get("config", {}).get("protocol")
        number = self._numbers.get(self._changes(document))
        return " ".join(
            [name, *([f"({protocol})"] if protocol else []), *([f"[{number}]"] if number else [])]
        )

    def row(self, document: Mapping[str, Any]) -> tuple[str, str]:
        """Returns the same for what may stand in one row: a model, all settings alike."""
        return self.model(document), document["model"]["sha256"]

    def mark(self, document: Mapping[str, Any]) -> str:
        """Returns a mark if not the published images were scored; else nothing."""
        whole = document.get("as_published", True) and not document.get("limited")
        return "" if whole else _SMALLER

    def note(self, documents: Sequence[Mapping[str, Any]]) -> str:
        """Returns what the marks of some results say; empty if they have none."""
        notes = [_SMALLER_NOTE] if any(map(self.mark, documents)) else []
        changes = dict.fromkeys(map(self._changes, documents))
        notes += [
            f"[{number}] other settings than the protocol's: {text}."
            for text, number in self._numbers.items()
            if text in changes
        ]
        return " ".join(notes)

    def _changes(self, document: Mapping[str, Any]) -> str:
        # Matching accuracy knows no protocol.
        if "config" not in document["settings"]:
            return ""
        return changed_settings(document, self._get_config)


def _names_of_models(documents: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Returns names by directory and digest; those of different models differ."""
    names = {place: model_name(place[0]) for place in map(_place, documents)}
    digests: dict[str, set[str]] = {}
    for (_, sha256), name in names.items():
        digests.setdefault(name, set()).add(sha256)
    return {
        place: f"{name}-{place[1][:_DIGITS]}" if len(digests[name]) > 1 else name
        for place, name in names.items()
    }


def _place(document: Mapping[str, Any]) -> tuple[str, str]:
    return document["model"]["directory"], document["model"]["sha256"]
