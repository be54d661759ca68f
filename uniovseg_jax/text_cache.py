"""Text embeddings on disk: a name is embedded once per model and prompts, not once per run."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from uniovseg_jax.files import make_folder, write_whole
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.weights.store import params_sha256

_VECTORS, _NAMES, _DIGEST = "vectors", "names", "sha256"


class TextCache:
    """Vectors of names in one file, which is replaced as a whole and ignored where it is damaged.

    Args:
      directory: Folder of caches; made when needed.
      digest: Of everything that decides a vector besides the name, from `text_digest`.
    """

    def __init__(self, directory: str | os.PathLike[str], digest: str):
        self._path = pathlib.Path(directory) / f"{digest}.safetensors"

    def read(self) -> dict[str, Float[np.ndarray, " e"]]:
        """Returns all vectors by name; none where the file is missing or damaged."""
        try:
            with safe_open(str(self._path), framework="np") as file:
                metadata = file.metadata() or {}
                vectors = file.get_tensor(_VECTORS)
                if metadata[_DIGEST] != _digest(metadata[_NAMES], vectors):
                    return {}
                names = json.loads(metadata[_NAMES])
        except (OSError, SafetensorError, KeyError, ValueError):
            return {}
        return dict(zip(names, vectors, strict=True)) if np.isfinite(vectors).all() else {}

    def add(self, vectors: Mapping[str, Float[np.ndarray, " e"]]) -> None:
        """Writes vectors beside those that are there, in one move."""
        merged = self.read() | dict(vectors)
        make_folder(self._path.parent)
        tensors = {_VECTORS: np.stack(list(merged.values()))}
        names = json.dumps(list(merged))
        metadata = {_NAMES: names, _DIGEST: _digest(names, tensors[_VECTORS])}
        write_whole(self._path, lambda path: save_file(tensors, str(path), metadata))


def _digest(names: str, vectors: np.ndarray) -> str:
    """Tells a file that is as it was written from one with a flipped bit."""
    return hashlib.sha256(names.encode() + vectors.tobytes()).hexdigest()


def text_digest(text_params: Any, tokenizer: Tokenizer, templates: Sequence[str]) -> str:
    """Returns the digest of a text tower, its tokenizer and the prompts around a name."""
    digest = hashlib.sha256(params_sha256(text_params).encode())
    digest.update(tokenizer.to_json().encode())
    digest.update(json.dumps(list(templates)).encode())
    return digest.hexdigest()
