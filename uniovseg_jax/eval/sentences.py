"""Sentences on several benchmarks, each once: what is not verified about their results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def sentences_of_parts(sentences: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns the sentences of a suite: of what is not so for all parts, the names are in front.

    Args:
      sentences: By the name of the part.
    """
    return [
        text if len(names) == len(sentences) else _named(names, text)
        for text, names in _names_by_sentence(sentences.items()).items()
    ]


def sentences_of_results(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the sentences of several results behind the names of the benchmarks they are of.

    What holds for all parts of a suite is said of the suite, if its means are among the results.

    Args:
      documents: As `results.json` holds them.
    """
    own = [(document["benchmark"], document.get("unverified", [])) for document in documents]
    suites = [document["benchmark"] for document in documents if "parts" in document]
    found = _names_by_sentence(pair for pair in own if pair[0] not in suites)
    for suite, sentences in own:
        if suite in suites:
            _add_suite(found, suite, sentences)
    return [_named(names, text) for text, names in found.items()]


def _add_suite(found: dict[str, list[str]], suite: str, sentences: Sequence[str]) -> None:
    """Adds what a suite says; what it says of some parts is left out where these say it."""
    of_parts = {
        text: [name for name in names if name.startswith(f"{suite}/")]
        for text, names in found.items()
    }
    for text in sentences:
        if of_parts.get(text):
            found[text] = [name for name in found[text] if name not in of_parts[text]]
        elif any(names and text.endswith(f": {known}") for known, names in of_parts.items()):
            continue
        found.setdefault(text, []).append(suite)


def _names_by_sentence(sentences: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Returns every sentence with the names that it belongs to."""
    found: dict[str, list[str]] = {}
    for name, texts in sentences:
        for text in texts:
            names = found.setdefault(text, [])
            names += [] if name in names else [name]
    return found


def _named(names: Sequence[str], text: str) -> str:
    return f"{', '.join(names)}: {text}"
