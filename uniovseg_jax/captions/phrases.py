"""What the parsers share: from noun phrases to entities, and whether a caption holds a phrase."""

import re
from collections.abc import Iterable

from uniovseg_jax.captions.parse import clean_entities
from uniovseg_jax.captions.record import Entity
from uniovseg_jax.captions.words import DETERMINERS, FUNCTION_WORDS

# More than any caption names; an answer that goes on for ever is cut here.
MAX_PHRASES = 10_000
_WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")
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


def is_grounded(phrase: str, stems: frozenset[str]) -> bool:
    """Says whether every word of a phrase occurs in a caption, in whatever form.

    Args:
      phrase: To look for; function words in it do not count.
      stems: Of the caption, from `caption_stems`.
    """
    words = [word for word in _words(phrase) if word not in FUNCTION_WORDS | DETERMINERS]
    return bool(words) and all(_occurs(word, stems) for word in words)


def caption_stems(caption: str) -> frozenset[str]:
    """Returns everything that the words of a caption may be forms of."""
    words = (part for word in _words(caption) for part in {word, *word.split("-")})
    return frozenset(stem for word in words for stem in _stems(word))


def _occurs(word: str, stems: frozenset[str]) -> bool:
    if not _stems(word).isdisjoint(stems):
        return True
    return "-" in word and all(_occurs(part, stems) for part in word.split("-"))


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
