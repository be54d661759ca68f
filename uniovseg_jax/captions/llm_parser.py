"""The parser that asks a language model, and believes only what the caption says as well."""

import functools
import json
import re
from collections.abc import Sequence
from typing import Any

from uniovseg_jax.captions.chat.question import Chat, Failure, Question, ask_checked
from uniovseg_jax.captions.parse import clean_entities
from uniovseg_jax.captions.phrases import MAX_PHRASES, is_grounded, read_caption
from uniovseg_jax.captions.prompts import PARSE_SYSTEM, caption_turn, prompt_hash
from uniovseg_jax.captions.record import Tool

# Of an answer, in characters; longer ones are no list of a caption's entities.
_MAX_ANSWER = 100_000
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"|(?<![^\s\[,])\'((?:[^\'\n]|\'(?=\w))*)\'')


class LlmParser:
    """Asks for a JSON array of noun phrases, repairs it, and asks once more if that fails."""

    def __init__(self, chat: Chat, grounded: bool):
        """Takes a model.

        Args:
          chat: The model.
          grounded: Whether phrases that the caption does not hold, up to inflection, are refused.
        """
        self._chat, self._grounded = chat, grounded
        self.tool = Tool(f"llm/{chat.name}", chat.model, prompt_hash(PARSE_SYSTEM))
        self.batch_size, self.num_at_once = chat.batch_size, chat.num_at_once

    def __call__(self, captions: Sequence[str]) -> list[list[str] | Failure]:
        """Returns phrases; a caption without any letter has none and is not asked about."""
        results: list[Any] = [[] for _ in captions]
        asked = [n for n, text in enumerate(captions) if any(map(str.isalpha, text))]
        questions = [self.question(captions[n]) for n in asked]
        checks = [functools.partial(self._check, captions[n]) for n in asked]
        for n, result in zip(asked, ask_checked(self._chat, questions, checks), strict=True):
            results[n] = result
        return results

    def question(self, caption: str) -> Question:
        """Returns what is asked about a caption."""
        turns = (("system", PARSE_SYSTEM), ("user", caption_turn(caption)))
        return Question(turns, wants_list=True)

    def _check(self, caption: str, answer: str, is_last: bool) -> list[str]:
        phrases = read_phrases(answer)
        if not self._grounded:
            return phrases
        # What the clean-up drops anyway needs no reason in the caption.
        cleaned = clean_entities(phrases, MAX_PHRASES)
        words = read_caption(caption)
        grounded = [phrase for phrase in cleaned if is_grounded(phrase, words)]
        if len(grounded) < len(cleaned) and not (is_last and grounded):
            invented = next(phrase for phrase in cleaned if phrase not in grounded)
            raise ValueError(
                f"The caption does not hold {json.dumps(invented[:80], ensure_ascii=False)}; use "
                "words of the caption only."
            )
        return grounded


def read_phrases(answer: str) -> list[str]:
    """Finds the array of phrases in what a model said.

    An object with one array, and text or a code fence around it, are accepted; quotes of the wrong
    kind, commas too many and an end that is cut off are repaired.

    Raises:
      ValueError: If there is no array of strings; a sentence that helps the model to do better.
    """
    if len(answer) > _MAX_ANSWER:
        raise ValueError("It is far too long.")
    phrases = _parse(answer.strip())
    if phrases is None:
        begin = answer.find("[")
        if begin < 0:
            raise ValueError("It holds no JSON array of strings.")
        array = _array_text(answer[begin:])
        phrases = _parse(array)
        if phrases is None:
            phrases = _repair(array)
    return phrases[:MAX_PHRASES]


def _parse(text: str) -> list[str] | None:
    """Returns the phrases of whole JSON; None if it is none or something else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        value = lists[0] if len(lists) == 1 else None
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    return None


def _array_text(text: str) -> str:
    """Returns the text from its first bracket to the one that closes it, or all of it."""
    position = 1
    while position < len(text):
        if text[position] == "]":
            return text[: position + 1]
        match = _STRING.match(text, position)
        position = match.end() if match else position + 1
    return text


def _repair(array: str) -> list[str]:
    rest = _STRING.sub("", array)
    phrases = [match[1] if match[1] is not None else match[2] for match in _STRING.finditer(array)]
    # Beside strings there are brackets and commas only, or a last string that has no end.
    if not phrases or not re.fullmatch(r"[\[\],\s]*(?:[\"'][^\"'\]\n]*)?", rest):
        raise ValueError("It holds no JSON array of strings that can be read.")
    return [phrase.replace('\\"', '"') for phrase in phrases]
