"""Words: categories with synonyms, prompt templates, and the text side of the classifier.

Inference, alignment and evaluation share this file, so that a name means the same vector to all.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from uniovseg_jax.buckets import SMALLEST_BUCKET, bucket_size
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.weights.store import Pretrained

# `vild14` are the 14 prompts that FC-CLIP and the released Uni-OVSeg code use; the missing full
# stops are as in the source.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "single": ("a photo of a {}.",),
    "vild14": (
        "a photo of a {}.",
        "This is a photo of a {}",
        "There is a {} in the scene",
        "There is the {} in the scene",
        "a photo of a {} in the scene",
        "a photo of a small {}.",
        "a photo of a medium {}.",
        "a photo of a large {}.",
        "This is a photo of a small {}.",
        "This is a photo of a medium {}.",
        "This is a photo of a large {}.",
        "There is a small {} in the scene.",
        "There is a medium {} in the scene.",
        "There is a large {} in the scene.",
    ),
}

# Prompts per call of the text tower, at most.
_LARGEST_BUCKET = 256


@dataclasses.dataclass(frozen=True)
class Category:
    """One class of a vocabulary.

    Attributes:
      names: The label, followed by its synonyms.
      is_thing: Whether instances are told apart; stuff is one segment per image.
      is_background: Whether regions of this class are thrown away.
    """

    names: tuple[str, ...]
    is_thing: bool = True
    is_background: bool = False

    @property
    def label(self) -> str:
        """The name shown to people."""
        return self.names[0]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The classes that regions are told apart by; background classes come last.

    Raises:
      ValueError: If there is no class besides background, a name is empty, or occurs twice.
    """

    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        if all(category.is_background for category in self.categories):
            raise ValueError("The vocabulary is empty: expected at least one name.")
        seen: set[str] = set()
        background = False
        for category in self.categories:
            if background and not category.is_background:
                raise ValueError("Background categories come after all others.")
            background = category.is_background
            if not category.names:
                raise ValueError("The vocabulary has a category without a name.")
            for name in category.names:
                key = _normalise(name)
                if not key:
                    raise ValueError(
                        f"The vocabulary has an empty name in {'|'.join(category.names)!r}."
                    )
                if key in seen:
                    raise ValueError(f"The name {name!r} occurs twice in the vocabulary.")
                seen.add(key)

    @property
    def labels(self) -> tuple[str, ...]:
        """First name of every category."""
        return tuple(category.label for category in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, category by category."""
        return tuple(name for category in self.categories for name in category.names)

    @property
    def name_to_class(self) -> Int[np.ndarray, " m"]:
        """Index of the category of every entry of `names`."""
        counts = [len(category.names) for category in self.categories]
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def num_foreground(self) -> int:
        """Number of categories that are not background."""
        return sum(not category.is_background for category in self.categories)


def _normalise(name: str) -> str:
    return " ".join(name.split()).casefold()


def _split(names: str | Iterable[str]) -> list[tuple[str, ...]]:
    """Splits at commas (one string only) into categories and at bars into synonyms."""
    if isinstance(names, str):
        names = names.split(",") if names.strip() else []
    return [tuple(" ".join(part.split()) for part in entry.split("|")) for entry in names]


def parse_vocabulary(
    names: str | Iterable[str],
    stuff: str | Iterable[str] = (),
    background: str | Iterable[str] = (),
) -> Vocabulary:
    """Reads a vocabulary as people type it.

    Args:
      names: Categories, as a list or as one string with commas; synonyms of a category are
        joined by `|`, the first one is its label: `"grass,red ball|red sphere"`.
      stuff: Those names (any synonym will do) that are stuff; all others are things.
      background: Names of what is to be left out; not part of `names`.

    Raises:
      ValueError: If the vocabulary is empty, a name is empty or occurs twice, or a stuff name is
        not among the names.
    """
    entries = _split(names)
    stuff_names = [name for entry in _split(stuff) for name in entry]
    known = {_normalise(name) for entry in entries for name in entry}
    for name in stuff_names:
        if _normalise(name) not in known:
            raise ValueError(f"The stuff name {name!r} is not in the vocabulary.")
    stuff_keys = {_normalise(name) for name in stuff_names}
    categories = [
        Category(entry, is_thing=stuff_keys.isdisjoint(_normalise(name) for name in entry))
        for entry in entries
    ]
    categories += [Category(entry, False, is_background=True) for entry in _split(background)]
    return Vocabulary(tuple(categories))


class TextEncoder:
    """Embeds names: mean over prompt templates, on the unit sphere.

    The text tower is compiled once per batch size, of which there are five (16 to 256 prompts), and
    a name that was met before is not encoded again.

    Args:
      pretrained: A model with the part `clip`.
      templates: A key of `TEMPLATES`, or prompts with a `{}` for the name.
    """

    def __init__(self, pretrained: Pretrained, templates: str | Sequence[str] = "vild14"):
        if "clip" not in pretrained.parts or pretrained.tokenizer is None:
            raise ValueError("Names need a model with the part clip, which this one lacks.")
        if isinstance(templates, str):
            if templates not in TEMPLATES:
                raise ValueError(
                    f"Unknown templates {templates!r}; expected one of {', '.join(TEMPLATES)}."
                )
            templates = TEMPLATES[templates]
        if not templates or any("{}" not in template for template in templates):
            raise ValueError("Prompt templates: expected at least one, each with {} for the name.")
        model = pretrained.model
        self.templates = tuple(templates)
        self._tokenizer = pretrained.tokenizer
        self._params = {"params": {"clip": pretrained.variables["params"]["clip"]}}
        self._encode = jax.jit(
            lambda variables, tokens: model.apply(variables, tokens, method=UniOVSeg.encode_text)
        )
        self._cache: dict[str, np.ndarray] = {}

    def embed(self, names: Sequence[str]) -> Float[np.ndarray, "n e"]:
        """Returns one unit vector per name.

        Per name the vectors of all prompts are normalised, averaged and normalised again.

        Raises:
          ValueError: If there is no name, or a name does not fit the text tower's positions.
        Source: Uni-OVSeg, section 3.4 (prompts of ViLD); FC-CLIP's classifier.
        """
        if not names:
            raise ValueError("There is no name to embed: expected at least one.")
        new = [name for name in dict.fromkeys(names) if name not in self._cache]
        if new:
            tokens = self._tokenize(new)
            vectors = np.concatenate(
                [
                    self._encode_padded(tokens[start : start + _LARGEST_BUCKET])
                    for start in range(0, len(tokens), _LARGEST_BUCKET)
                ]
            )
            means = vectors.reshape(len(new), len(self.templates), -1).mean(axis=1)
            means /= np.linalg.norm(means, axis=-1, keepdims=True)
            self._cache.update(zip(new, means, strict=True))
        return np.stack([self._cache[name] for name in names])

    def _tokenize(self, names: Sequence[str]) -> Int[np.ndarray, "p t"]:
        prompts = [template.replace("{}", name) for name in names for template in self.templates]
        tokens = self._tokenizer(prompts)
        limit = tokens.shape[1]
        # Only a row without padding can have been cut.
        for row in np.flatnonzero(tokens[:, -1] != 0).tolist():
            count = self._tokenizer.count(prompts[row])
            if count > limit:
                name = names[row // len(self.templates)]
                shown = name if len(name) <= 60 else name[:57] + "..."
                template = self.templates[row % len(self.templates)]
                raise ValueError(
                    f"The name {shown!r} is too long: {count} tokens in the prompt "
                    f"{template!r}, but the text tower takes at most {limit}."
                )
        return tokens

    def _encode_padded(self, tokens: Int[np.ndarray, "p t"]) -> Float[np.ndarray, "p e"]:
        size = bucket_size(len(tokens), SMALLEST_BUCKET)
        padded = np.zeros((size, tokens.shape[1]), np.int32)
        padded[: len(tokens)] = tokens
        return np.asarray(self._encode(self._params, padded), np.float32)[: len(tokens)]


def class_cosines(
    regions: Float[np.ndarray, "n e"],
    names: Float[np.ndarray, "m e"],
    name_to_class: Int[np.ndarray, " m"],
) -> Float[np.ndarray, "n t"]:
    """Returns the cosine of every region with every class: the maximum over the class's names.

    Args:
      regions: Unit vectors of regions.
      names: Unit vectors of names.
      name_to_class: Class of every name, 0..t-1, ascending and without gaps.
    """
    starts = np.searchsorted(name_to_class, np.arange(name_to_class[-1] + 1))
    return np.maximum.reduceat(regions @ names.T, starts, axis=1)
