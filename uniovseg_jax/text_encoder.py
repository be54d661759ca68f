"""The text side of the classifier: names to vectors, vectors to classes.

Inference, alignment and evaluation share this file, so that a name means the same vector to all.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from jaxtyping import Float, Int

from uniovseg_jax.buckets import SMALLEST_BUCKET, bucket_size
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.prompt_templates import TEMPLATES, check_templates, fill
from uniovseg_jax.text_cache import TextCache, text_digest
from uniovseg_jax.weights.store import Pretrained

# Prompts per call of the text tower, at most.
_LARGEST_BUCKET = 256
# Names whose prompts are in memory at a time; a data set may have a million.
_NAMES_AT_ONCE = 1024


# Names to unit vectors, as `TextEncoder.embed`.
EmbedTexts = Callable[[Sequence[str]], Float[np.ndarray, "m e"]]


class TextEncoder:
    """Embeds names: mean over prompt templates, on the unit sphere.

    The text tower is compiled once per batch size, of which there are five (16 to 256 prompts), and
    a name that was met before is not encoded again.

    Args:
      pretrained: A model with the part `clip`.
      templates: A key of `TEMPLATES`, or prompts as `prompt_templates.fill` takes them.
      cache_dir: Folder in which vectors are kept for later runs; None keeps them for this one.
      one_by_one: Encode every name by itself, so that its vector is the same to the last bit
        whatever names come with it; slower.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        templates: str | Sequence[str] = "vild14",
        cache_dir: str | os.PathLike[str] | None = None,
        one_by_one: bool = False,
    ):
        if "clip" not in pretrained.parts or pretrained.tokenizer is None:
            raise ValueError("Names need a model with the part clip, which this one lacks.")
        if isinstance(templates, str):
            check_templates(templates)
            templates = TEMPLATES[templates]
        if not templates or any("{}" not in template for template in templates):
            raise ValueError("Prompt templates: expected at least one, each with {} for the name.")
        model = pretrained.model
        self.templates = tuple(templates)
        self._names_at_once = 1 if one_by_one else _NAMES_AT_ONCE
        self._tokenizer = pretrained.tokenizer
        self._params = {"params": {"clip": pretrained.variables["params"]["clip"]}}
        self._encode = jax.jit(
            lambda variables, tokens: model.apply(variables, tokens, method=UniOVSeg.encode_text)
        )
        self._disk: TextCache | None = None
        if cache_dir is not None:
            text = pretrained.variables["params"]["clip"]["text"]
            digest = text_digest(text, pretrained.tokenizer, self.templates)
            self._disk = TextCache(cache_dir, digest)
        self._cache = self._disk.read() if self._disk else {}

    def embed(self, names: Sequence[str], progress: bool = False) -> Float[np.ndarray, "n e"]:
        """Returns one unit vector per name.

        Per name the vectors of all prompts are normalised, averaged and normalised again.

        Args:
          names: At least one.
          progress: Whether to show a bar while new ones are encoded.

        Raises:
          ValueError: If there is no name, or a name does not fit the text tower's positions.
        Source: Uni-OVSeg, section 3.4 (prompts of ViLD); FC-CLIP's classifier.
        """
        if not names:
            raise ValueError("There is no name to embed: expected at least one.")
        new = [name for name in dict.fromkeys(names) if name not in self._cache]
        with tqdm.tqdm(
            desc="names",
            total=len(new) * len(self.templates),
            unit="prompt",
            disable=not (progress and new),
        ) as bar:
            for first in range(0, len(new), self._names_at_once):
                found = self._encode_names(new[first : first + self._names_at_once], bar)
                self._cache.update(found)
                if self._disk is not None:
                    self._disk.add(found)
        return np.stack([self._cache[name] for name in names])

    def _encode_names(
        self, names: Sequence[str], bar: "tqdm.tqdm[Any]"
    ) -> dict[str, Float[np.ndarray, " e"]]:
        tokens, vectors = self._tokenize(names), []
        for start in range(0, len(tokens), _LARGEST_BUCKET):
            vectors.append(self._encode_padded(tokens[start : start + _LARGEST_BUCKET]))
            bar.update(len(vectors[-1]))
        means = np.concatenate(vectors).reshape(len(names), len(self.templates), -1).mean(axis=1)
        means /= np.linalg.norm(means, axis=-1, keepdims=True)
        return dict(zip(names, means, strict=True))

    def fits(self, name: str) -> bool:
        """Tells whether a name fits the text tower's positions in every prompt."""
        if name in self._cache:
            return True
        prompts = [fill(template, name) for template in self.templates]
        tokens = self._tokenizer(prompts)
        full = np.flatnonzero(tokens[:, -1] != 0).tolist()
        return all(self._tokenizer.count(prompts[row]) <= tokens.shape[1] for row in full)

    def _tokenize(self, names: Sequence[str]) -> Int[np.ndarray, "p t"]:
        prompts = [fill(template, name) for name in names for template in self.templates]
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
