"""From a caption to noun phrases by grammar: `rules`, NLTK, spaCy. Asking a model: `llm_parser`."""

import importlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from uniovseg_jax.captions.chat.question import Failure
from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.captions.phrases import MAX_PHRASES
from uniovseg_jax.captions.record import Tool

# Taggers take time that grows with the text; spaCy refuses a million characters.
_MAX_TAGGED = 100_000
_ADJECTIVE = re.compile(r"JJ[RS]?")
_NOUN = re.compile(r"NN(?:P|S|PS)?")
# Neither tagger knows what to do with them.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@runtime_checkable
class Parser(Protocol):
    """Finds noun phrases; threads may share it.

    Attributes:
      tool: What the records will say about it.
      batch_size: Captions that it likes to have at once.
      num_at_once: Threads that may call it at the same time.
    """

    tool: Tool
    batch_size: int
    num_at_once: int

    def __call__(self, captions: Sequence[str]) -> list[list[str] | Failure]:
        """Returns phrases, not yet cleaned, or a failure for each caption."""
        ...


class RulesParser:
    """Cuts at punctuation and function words; needs nothing and never fails."""

    tool = Tool("rules")
    batch_size = num_at_once = 1

    def __call__(self, captions: Sequence[str]) -> list[list[str] | Failure]:
        """Returns the phrases of `parse_rules`."""
        return [parse_rules(caption, MAX_PHRASES) for caption in captions]


class NltkParser:
    """Tags words and takes runs of adjectives and nouns that end in a noun."""

    tool = Tool("nltk")
    batch_size = num_at_once = 1

    def __init__(
        self,
        tokenize: Callable[[str], list[list[str]]] | None = None,
        tag: Callable[[list[str]], list[tuple[str, str]]] | None = None,
    ):
        """Takes NLTK's tools where not both others are given.

        Args:
          tokenize: Text to sentences of words.
          tag: Words to pairs of word and Penn Treebank tag.

        Raises:
          ValueError: If NLTK or its data are not installed.
        """
        if tokenize is not None and tag is not None:
            self._tokenize, self._tag = tokenize, tag
        else:
            self._tokenize, self._tag = _load_nltk()

    def __call__(self, captions: Sequence[str]) -> list[list[str] | Failure]:
        """Returns the runs of each caption."""
        return [
            [
                phrase
                for words in self._tokenize(_plain(caption))
                for phrase in chunk_nouns(self._tag(words))
            ]
            for caption in captions
        ]


class SpacyParser:
    """Takes the noun chunks of an English pipeline of spaCy."""

    num_at_once = 1

    def __init__(self, model: str, batch_size: int):
        """Loads the pipeline.

        Args:
          model: Name of an installed pipeline, such as `en_core_web_sm`, or its folder.
          batch_size: Captions at once.

        Raises:
          ValueError: If spaCy or the pipeline is not installed, or it finds no noun chunks.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.batch_size = batch_size
        try:
            spacy = importlib.import_module("spacy")
        except ImportError:
            raise ValueError(
                "The parser spacy needs spaCy; install it (pip install spacy)."
            ) from None
        try:
            self._pipeline = spacy.load(model, exclude=["ner"])
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(
                f"spaCy has no pipeline {model!r}; install it "
                "(python -m spacy download en_core_web_sm)."
            ) from error
        if not self._pipeline.has_pipe("parser"):
            raise ValueError(f"spaCy's pipeline {model!r} has no parser, which noun chunks need.")
        about = self._pipeline.meta
        self.tool = Tool("spacy", f"{about['lang']}_{about['name']}-{about['version']}")
        self._lock = threading.Lock()

    def __call__(self, captions: Sequence[str]) -> list[list[str] | Failure]:
        """Returns the noun chunks of each caption."""
        with self._lock:
            documents = self._pipeline.pipe([_plain(caption) for caption in captions])
            return [
                [
                    # A chunk begins with its determiner, possessive or numeral, whatever they are.
                    " ".join(word.text for word in chunk if word.pos_ not in ("DET", "PUNCT"))
                    for chunk in document.noun_chunks
                    if chunk.root.pos_ != "PRON"
                ]
                for document in documents
            ]


def chunk_nouns(tagged: Sequence[tuple[str, str]]) -> list[str]:
    """Returns runs of adjectives and nouns that end in a noun.

    Args:
      tagged: Words of a sentence with their Penn Treebank tags.
    """
    phrases: list[str] = []
    run: list[str] = []
    last_noun = 0
    for word, tag in [*tagged, ("", "")]:
        is_noun = _NOUN.fullmatch(tag) is not None
        # Behind a noun, an adjective opens the next phrase.
        if run and (not is_noun and (last_noun or not _ADJECTIVE.fullmatch(tag))):
            phrases += [" ".join(run[:last_noun])] if last_noun else []
            run, last_noun = [], 0
        if is_noun or _ADJECTIVE.fullmatch(tag):
            run.append(word)
            last_noun = len(run) if is_noun else last_noun
    return phrases


def _plain(caption: str) -> str:
    return _CONTROLS.sub(" ", caption[:_MAX_TAGGED])


def _load_nltk() -> tuple[Any, Any]:
    try:
        nltk = importlib.import_module("nltk")
    except ImportError:
        raise ValueError("The parser nltk needs NLTK; install it (pip install nltk).") from None

    def tokenize(text: str) -> list[list[str]]:
        return [nltk.word_tokenize(sentence) for sentence in nltk.sent_tokenize(text)]

    try:
        nltk.pos_tag(tokenize("A dog.")[0])
    except LookupError:
        raise ValueError(
            "NLTK lacks its data; fetch them (python -m nltk.downloader punkt_tab "
            "averaged_perceptron_tagger_eng)."
        ) from None
    return tokenize, nltk.pos_tag
