"""What the parsers share: from noun phrases to entities, and whether a caption holds a phrase."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from uniovseg_jax.captions.parse import clean_entities
from uniovseg_jax.captions.record import Entity
from uniovseg_jax.captions.words import DETERMINERS, FUNCTION_WORDS, PRONOUNS, VERBS

# More than any caption names; an answer that goes on for ever is cut here.
MAX_PHRASES = 10_000
_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")
_TOKEN = re.compile(rf"{_WORD.pattern}|[^\w\s'\"\u2018-\u201d*`]")
# Passed over, as if they were not there: "a ball that is very red".
_ADVERBS = frozenset("very too also just quite rather partly mostly nearly almost".split())
# A letter for what a word does in a caption; "w" is any that names or describes. "h" and "m" are
# the last word of the phrase and its others, wherever they stand.
_LETTERS = {
    **dict.fromkeys(VERBS, "v"),
    **dict.fromkeys(FUNCTION_WORDS | PRONOUNS, "x"),
    **dict.fromkeys(DETERMINERS, "d"),
    **dict.fromkeys("that which who is are was were be been being".split(), "b"),
    **dict.fromkeys(("and", "or", ","), "c"),
    **dict.fromkeys(("with", "in", "by"), "p"),
    "of": "o",
}
# Behind its noun: "red and large"; the last word must not belong to another noun.
_BEHIND = r"(?:[mw]{1,4}c{1,2}){0,4}[mw]{0,4}m(?![wh])"
# Where a description and its noun stand. Numbers are bounded so that no caption takes long.
_STRETCHES = tuple(
    re.compile(pattern)
    for pattern in (
        r"([hmw]+)",  # "a large red ball"
        r"(?=(m{1,4}(?:c{1,2}d?m{1,4}){1,4}w{0,3}h))",  # all of "black and white cat"
        # "a red and a blue ball", but not "that is red and a blue ball".
        r"(?<=[d.])(?=(m{1,4}(?:c{1,2}[mw]{1,3}){0,3}c{1,2}d?[mw]{1,4}h))",
        rf"(?=((?:m[mw]{{0,4}})?hb{{1,3}}{_BEHIND}))",  # "a ball that is red"
        rf"(?=((?:m[mw]{{0,4}})?hb{{0,3}}v?od{{0,2}}{_BEHIND}))",  # "a table made of wood"
        rf"(?=((?:m[mw]{{0,4}})?hb{{0,3}}m{{1,2}}pd{{0,2}}{_BEHIND}))",  # "covered with snow"
    )
)
# Forms that no ending makes.
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "people": "person",
    "persons": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "leaves": "leaf",
    "knives": "knife",
    "wolves": "wolf",
    "shelves": "shelf",
    "loaves": "loaf",
    "halves": "half",
    "calves": "calf",
    "scarves": "scarf",
    "wives": "wife",
}


def make_entities(
    phrases: Iterable[str], caption: str, max_entities: int
) -> tuple[tuple[Entity, ...], int]:
    """Cleans phrases and finds them in the caption.

    Args:
      phrases: Of any parser.
      caption: That was parsed.
      max_entities: At most this many are kept, the first ones.

    Returns:
      The entities, and how many there were before the cap.
    """
    texts = clean_entities(phrases, MAX_PHRASES)
    kept = [
        Entity(text, head=text.split()[-1], span=_find(text, caption))
        for text in texts[:max_entities]
    ]
    return tuple(kept), len(texts)


class CaptionWords(NamedTuple):
    """A caption in the form in which phrases are looked for.

    Attributes:
      letters: What each word and mark of punctuation does; see `_LETTERS`.
      places: Indices of the words that may be forms of a word.
    """

    letters: str
    places: dict[str, list[int]]


def read_caption(caption: str) -> CaptionWords:
    """Returns a caption's words, for `is_grounded`."""
    letters, places = ["."], {}
    for token in _TOKEN.findall(caption.lower().replace("\u2019", "'")):
        word = token.removesuffix("'s")
        if word in _ADVERBS:
            continue
        for stem in {stem for part in {word, *word.split("-")} for stem in _stems(part)}:
            places.setdefault(stem, []).append(len(letters))
        other = "w" if word[0].isalnum() else "."
        letters.append("d" if word.isdigit() else _LETTERS.get(word, other))
    return CaptionWords("".join(letters), places)


def is_grounded(phrase: str, caption: CaptionWords) -> bool:
    """Says whether a caption holds a phrase, its words in whatever form.

    It knows words, not grammar. The words must stand together: in one run that no verb, preposition
    or comma cuts ("red ball" in "a large red ball"), joined ("a red and a blue ball"), or with the
    description behind the noun ("a ball that is red", "a table made of wood", "a hill covered with
    snow"), where it must not go on to another noun. So a caption of a red ball and a blue car holds
    no "blue ball". What is said in another clause or sentence ("A ball. It is red.") is not found,
    and a noun passes for an adjective where one could stand ("a road and a blue car").

    Args:
      phrase: To look for; determiners do not count, and what a preposition joins ("bowl of fruit")
        may stand apart.
      caption: From `read_caption`.
    """
    parts: list[list[str]] = [[]]
    for word in _words(phrase):
        if word in FUNCTION_WORDS and word not in ("and", "or"):
            parts.append([])
        elif word not in FUNCTION_WORDS | DETERMINERS:
            parts[-1] += word.split("-")
    parts = [words for words in parts if words]
    return bool(parts) and all(_stand_together(words, caption) for words in parts)


def _stand_together(words: list[str], caption: CaptionWords) -> bool:
    found: dict[int, set[str]] = {}
    for word in words:
        for stem in _stems(word):
            for place in caption.places.get(stem, ()):
                found.setdefault(place, set()).add(word)
    if not set(words) <= set().union(*found.values()):
        return False
    letters = list(caption.letters)
    for place, here in found.items():
        letters[place] = "h" if words[-1] in here else "m"
    text = "".join(letters)
    return any(
        set(words) <= set().union(*(found.get(place, ()) for place in range(*match.span(1))))
        for pattern in _STRETCHES
        for match in pattern.finditer(text)
    )


def _words(text: str) -> list[str]:
    return [word.removesuffix("'s") for word in _WORD.findall(text.lower().replace("\u2019", "'"))]


def _stems(word: str) -> set[str]:
    """Returns the word and what it may be a form of; too many rather than too few."""
    stems = {word, _IRREGULAR.get(word, word)}
    for ending, replacements in (
        ("s", ("",)),
        ("es", ("",)),
        ("ies", ("y",)),
        ("ves", ("f", "fe")),
        ("ed", ("", "e")),
        ("ing", ("", "e")),
        ("en", ("", "e")),
    ):
        base = word.removesuffix(ending)
        if base != word and len(base) > 1:
            stems |= {base + replacement for replacement in replacements}
            if len(base) > 2 and base[-1] == base[-2]:  # "running", "wrapped"
                stems.add(base[:-1])
    return stems


def _find(text: str, caption: str) -> tuple[int, int] | None:
    words = [
        re.escape(word).replace("'", "['\u2019]").replace(r"\-", "[-\u2010\u2011]")
        for word in text.split()
    ]
    pattern = r"(?:['\u2019]s)?\s+".join(words)
    match = re.search(rf"(?<!\w){pattern}(?!\w)", caption, re.IGNORECASE)
    return match.span() if match else None
