"""From a caption to entities: the `rules` parser, and the clean-up that all parsers share.

The parser knows words, not grammar: it cuts a caption at punctuation, function words, determiners
and common verbs and keeps what lies between. It errs where grammar matters ("a ball that is red"
gives "ball" and "red"), needs no model and no download, and is always there.
"""

import re
import unicodedata
from collections.abc import Iterable

from uniovseg_jax.captions.words import (
    AMOUNTS,
    DETERMINERS,
    FUNCTION_WORDS,
    PICTURE_WORDS,
    PLACE_MODIFIERS,
    PLACE_WORDS,
    PRONOUNS,
    VERBS,
)

MAX_ENTITIES = 16
MAX_WORDS = 5
# A word may hold inner hyphens and apostrophes; everything else between words is a separator, and
# only blanks join two words into one phrase.
_TOKEN = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*|[^\w\s]|_")
_SPLITTERS = FUNCTION_WORDS | VERBS | DETERMINERS | PRONOUNS


def parse_rules(caption: str, max_entities: int = MAX_ENTITIES) -> list[str]:
    """Finds the things and regions that a caption names.

    Args:
      caption: English text of any length; an empty one gives no entities.
      max_entities: At most this many are returned, the first ones.

    Returns:
      Short lower-case phrases such as `red ball`, without determiners, each once, in their order.
    """
    phrases: list[str] = []
    current: list[str] = []
    for token in _TOKEN.findall(_normalise(caption)):
        is_word = token[0].isalnum()
        if is_word and token not in _SPLITTERS:
            current.append(token)
        elif current:
            phrases.append(" ".join(current))
            current = []
    if current:
        phrases.append(" ".join(current))
    return clean_entities(phrases, max_entities)


def clean_entities(phrases: Iterable[str], max_entities: int = MAX_ENTITIES) -> list[str]:
    """Cleans the phrases of any parser.

    Lower case and Unicode NFC; determiners, possessives, numerals and quantifiers come off the
    front, with the "of" behind them; pronouns, phrases about the picture itself ("left side"),
    phrases over five words or without a letter and repetitions are dropped; descriptive adjectives
    stay, and with them what is one in front of a noun only ("double", "first").

    Args:
      phrases: Noun phrases, one each.
      max_entities: At most this many are returned, the first ones.
    """
    entities: dict[str, None] = {}
    for phrase in phrases:
        words = [word.strip(".,;:!?\"'()[]") for word in _normalise(phrase).split()]
        words = _without_quantifiers([word for word in words if word])
        words = [word.removesuffix("'s") for word in words]
        if not words or len(words) > MAX_WORDS:
            continue
        if _is_about_picture(words) or all(word in PRONOUNS for word in words):
            continue
        if any(character.isalpha() for word in words for character in word):
            entities[" ".join(words)] = None
    return list(entities)[:max_entities]


def _without_quantifiers(words: list[str]) -> list[str]:
    """Returns what is left behind "two", "a pair of", "the left side of the" and their like."""
    while words:
        if words[0] in DETERMINERS | AMOUNTS | {"of"} or words[0].replace("-", "").isdigit():
            words = words[1:]
        elif "of" in words and _is_about_picture(words[: words.index("of")]):
            words = words[words.index("of") + 1 :]
        else:
            break
    return words


def _is_about_picture(words: list[str]) -> bool:
    if words[-1] in PICTURE_WORDS:
        return True
    return words[-1] in PLACE_WORDS and PLACE_WORDS | PLACE_MODIFIERS >= set(words)


def _normalise(text: str) -> str:
    # Typographic apostrophes and dashes are folded so that "it’s" is found in the lists.
    text = unicodedata.normalize("NFC", text).lower()
    return text.replace("\u2019", "'").replace("\u2010", "-").replace("\u2011", "-")
