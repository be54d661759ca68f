"""CLIP's text cleaning around a byte-pair encoder that travels with the model directory.

Source: Radford et al. (arXiv 2103.00020) as OpenCLIP tokenises; the file format is that of Hugging
Face `tokenizers`.
"""

import gzip
import html
import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import ftfy
import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import models, pre_tokenizers, processors

_START = "<start_of_text>"
_END = "<end_of_text>"
_UNKNOWN = "<unknown>"
_WORD_END = "</w>"
# CLIP's pattern ignores case, whereby U+0345, a combining iota, is in neither class and falls out.
_WORD_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}\x{0345}]+"
# CLIP's vocabulary: 256 bytes, the same 256 at a word's end, merges, start and end.
_CLIP_VOCAB_SIZE = 49408
_CLIP_CONTEXT_LENGTH = 77


def clean_text(text: str) -> str:
    """Repairs mojibake, unescapes HTML twice, collapses white space and lower-cases."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _byte_symbols() -> list[str]:
    """The visible characters that stand for the 256 bytes, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def _word_splitter() -> pre_tokenizers.PreTokenizer:
    """Splits cleaned text into words, numerals one by one, and runs of other signs, as bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _assemble(
    symbols: Sequence[str],
    merges: Sequence[tuple[str, str]],
    vocab_size: int,
    context_length: int,
    unknown: str | None,
) -> "Tokenizer":
    """Builds a tokenizer whose ids are symbols, merges and, at the very end, start and end."""
    vocab: dict[str, int] = {}
    for token in [*symbols, *(first + second for first, second in merges)]:
        vocab.setdefault(token, len(vocab))
    vocab[_START], vocab[_END] = vocab_size - 2, vocab_size - 1
    encoder = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocab, merges=list(merges), end_of_word_suffix=_WORD_END, unk_token=unknown
        )
    )
    encoder.pre_tokenizer = _word_splitter()  # pyright: ignore[reportAttributeAccessIssue]
    encoder.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{_START} $A {_END}",
        special_tokens=[(_START, vocab[_START]), (_END, vocab[_END])],
    )
    encoder.enable_truncation(context_length)
    encoder.enable_padding(length=context_length, pad_id=0, pad_token=symbols[0])
    return Tokenizer(encoder)


class Tokenizer:
    """Turns texts into token ids: start, byte pairs, end, then zeros.

    Unlike in OpenCLIP, `<start_of_text>` and `<end_of_text>` within a text are words like others:
    an end token in the middle would hide what follows it.

    Attributes:
      context_length: Number of ids per text.
      vocab_size: Number of ids; the last two are start and end.
    """

    def __init__(self, encoder: tokenizers.Tokenizer):
        """Wraps an encoder that truncates and pads to the context length.

        Raises:
          ValueError: If the encoder does not truncate, or lacks the start or the end token.
        """
        start, end = encoder.token_to_id(_START), encoder.token_to_id(_END)
        truncation = encoder.truncation
        if truncation is None or start is None or end is None or end != start + 1:
            raise ValueError(
                f"The tokenizer must truncate and hold {_START} and {_END} as its last two ids."
            )
        self.context_length: int = truncation["max_length"]
        self.vocab_size: int = end + 1
        self._encoder = encoder
        self._uncut = tokenizers.Tokenizer.from_str(encoder.to_str())
        self._uncut.no_truncation()
        self._uncut.no_padding()

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads the content of a `tokenizer.json`.

        Raises:
          ValueError: If the text is no tokenizer of this kind.
        """
        try:
            encoder = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"Not a tokenizer file: {error}.") from None
        return cls(encoder)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Tokenizer":
        """Reads a `tokenizer.json`.

        Raises:
          FileNotFoundError: If there is no such file.
          ValueError: If the file is no tokenizer of this kind.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such tokenizer file.")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:  # bad UTF-8 included
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_clip_merges(
        cls,
        merges: str | os.PathLike[str] | Sequence[str],
        context_length: int = _CLIP_CONTEXT_LENGTH,
    ) -> "Tokenizer":
        """Builds CLIP's tokenizer of 49408 ids.

        Args:
          merges: OpenAI's `bpe_simple_vocab_16e6.txt.gz`, or its lines, the header included.
          context_length: Number of ids per text.

        Raises:
          ValueError: If there are too few merges.
        """
        if isinstance(merges, str | os.PathLike):
            with gzip.open(merges, "rt", encoding="utf-8") as file:
                merges = file.read().split("\n")
        symbols = _byte_symbols()
        symbols += [symbol + _WORD_END for symbol in symbols]
        wanted = _CLIP_VOCAB_SIZE - 2 - len(symbols)
        lines = [line.split() for line in merges[1 : wanted + 1]]
        pairs = [(line[0], line[1]) for line in lines if len(line) == 2]
        if len(pairs) < wanted:
            raise ValueError(f"Expected a header and at least {wanted} lines of two symbols each.")
        return _assemble(symbols, pairs, _CLIP_VOCAB_SIZE, context_length, unknown=None)

    def to_json(self) -> str:
        """Returns the content of a `tokenizer.json`."""
        return self._encoder.to_str(pretty=False)

    def count(self, text: str) -> int:
        """Returns how many ids a text has before it is cut, start and end included."""
        return len(self._uncut.encode(clean_text(text)).ids)

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "n t"]:
        """Returns int32 ids padded with 0; a longer text is cut and keeps its end token."""
        encodings = self._encoder.encode_batch([clean_text(text) for text in texts])
        ids = [encoding.ids for encoding in encodings]
        return np.array(ids, np.int32).reshape(len(ids), self.context_length)


def _learn_merges(
    words: Mapping[tuple[str, ...], int], known: set[str], num_merges: int
) -> list[tuple[str, str]]:
    """Merges the most frequent pair of known symbols again and again.

    Ties go to the pair that sorts first; `tokenizers`' own trainer breaks them by the order of a
    hash table, which differs from run to run.
    """
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                if known.issuperset(pair):
                    pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        known.add(best[0] + best[1])
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            merged[_merge(word, best)] += count
        words = merged
    return merges


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Joins every occurrence of a pair, from the left."""
    symbols: list[str] = []
    for symbol in word:
        # A symbol just joined is longer than the pair's first, so it never joins twice.
        if symbols and (symbols[-1], symbol) == pair:
            symbols[-1] += symbol
        else:
            symbols.append(symbol)
    return tuple(symbols)


def train_tokenizer(texts: Iterable[str], vocab_size: int, context_length: int) -> Tokenizer:
    """Trains byte pairs on texts; the same texts give the same tokenizer.

    Every printable ASCII sign is a token, so any such word can be spelled; other signs share an
    unknown token, which is also the padding.

    Args:
      texts: Corpus, cleaned here.
      vocab_size: Number of ids; `end` is always the last and `start` the one before.
      context_length: Number of ids per text.

    Raises:
      ValueError: If `vocab_size` cannot even hold the single signs.
    """
    alphabet = [chr(b) for b in range(33, 127) if not chr(b).isupper()]
    symbols = [_UNKNOWN, *alphabet, *(sign + _WORD_END for sign in alphabet)]
    num_merges = vocab_size - 2 - len(symbols)
    if num_merges < 0:
        raise ValueError(
            f"A vocabulary needs at least {len(symbols) + 2} ids; asked for {vocab_size}."
        )
    splitter = _word_splitter()
    words: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(clean_text(text)):
            words[(*word[:-1], word[-1] + _WORD_END)] += 1
    merges = _learn_merges(words, known=set(symbols), num_merges=num_merges)
    return _assemble(symbols, merges, vocab_size, context_length, unknown=_UNKNOWN)
