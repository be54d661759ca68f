"""Which answers of a model are descriptions in English, and where one that was cut off still ends.

Judged by what it positively finds: a plain English caption is never turned away.
"""

import re
import unicodedata

from uniovseg_jax.captions.words import DETERMINERS, FUNCTION_WORDS, PRONOUNS

# Of a description, in characters; a model that does not stop is cut off at its longest answer.
_MAX_DESCRIPTION = 20_000
# Shorter texts may be a name in another language, such as that of a square.
_MIN_WORDS = 6
_MIN_FOREIGN = 3
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = FUNCTION_WORDS | DETERMINERS | PRONOUNS
# The commonest words of Spanish, Portuguese, Italian, French, German and Dutch, without those that
# are English ones ("die", "van", "come").
_FOREIGN = frozenset(
    """
    el la los las un una unos unas de del y con sobre por para que es est\u00e1 est\u00e1n se su sus
    al hay os um uma em na nos nas dos da das com \u00e9 s\u00e3o est\u00e3o ao e
    il lo gli le di della dei delle nel nella con \u00e8 sono che uno sul sulla su
    les des une et est sont sur dans avec au aux du qui ses deux
    der das den dem des und ein eine einen einem einer ist sind mit auf im zu vor neben
    het een en op zijn staat naast bij
    """.split()
)
_REFUSAL = re.compile(
    r"""
    (?:unfortunately,?\ )?
    (?: i'?m\ sorry(?:[,.]|\ but|\ that) | i\ am\ sorry(?:[,.]|\ but|\ that)
      | sorry,?\ (?:but\ )?i\b
      | i\ apologi[sz]e\b
      | as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)\b
      | (?:i'm|i\ am)\ (?:not\ able|unable)\ to\b
      | i\ (?:can't|cannot|can\ not|could\ not|couldn't|do\ not|don't|won't|will\ not)
        \ (?:assist|help|see|view|access|provide|describe|identify|process|analy[sz]e|comply|have)\b
      | (?:there\ is\ )?no\ image\ (?:is\ |was\ |has\ been\ )?(?:attached|provided|uploaded)\b
      | please\ (?:provide|upload|attach|share)\ (?:the|an|your)\ image\b
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Not behind initials or short titles ("St. Mary").
_SENTENCE = re.compile(r"(?<=[a-z]{3})[.!?][\"')\]]*(?=\s+[\"'(\[]?[A-Z]|\s*\Z)")


def check_description(answer: str) -> str:
    """Returns an answer without blanks around it.

    Raises:
      ValueError: If it is no description in English; a sentence that helps the model to do better.
    """
    text = answer.strip()
    if text[:1] in "<{" or len(text) > _MAX_DESCRIPTION:
        raise ValueError("It is no description in plain sentences.")
    if not any(character.isalpha() for character in text):
        raise ValueError("It holds no words.")
    if not mostly_latin(text) or speaks_another_language(text):
        raise ValueError("It is not in English.")
    if _REFUSAL.match(text.replace("\u2019", "'")):
        raise ValueError("It does not describe the image.")
    return text


def mostly_latin(text: str) -> bool:
    """Says whether at least half of the letters are Latin ones, as those of English are."""
    letters = [character for character in text if character.isalpha()]
    latin = sum("LATIN" in unicodedata.name(character, "") for character in letters)
    return 2 * latin >= len(letters)


def speaks_another_language(text: str) -> bool:
    """Says whether function words of six languages of Europe outnumber those of English."""
    words = [word.lower() for word in _WORD.findall(unicodedata.normalize("NFC", text))]
    num_foreign = sum(word in _FOREIGN for word in words)
    num_english = sum(word in _ENGLISH for word in words)
    return len(words) >= _MIN_WORDS and num_foreign >= max(_MIN_FOREIGN, num_english + 1)


def whole_sentences(text: str) -> str:
    """Returns a text up to its last whole sentence; empty if there is none."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    return text[: ends[-1]] if ends else ""
