"""What the loop asks of a phase, and what phases share."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.data import pipeline
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.models.presets import UniOVSegConfig, config_from_dict
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.train.objectives import Objective


@runtime_checkable
class BatchIterator(Protocol):
    """Batches one after the other, from any place."""

    def __next__(self) -> dict[str, Any]:
        """Returns the next batch."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns where it is, as JSON values."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        ...


@runtime_checkable
class Batches(Protocol):
    """Endless batches."""

    def __iter__(self) -> BatchIterator:
        """Begins at the first batch."""
        ...


@dataclasses.dataclass(frozen=True)
class Phase:
    """Everything that the loop asks of a phase.

    Attributes:
      model_config: The model, as it will be saved.
      tokenizer: Saved along with the part `clip`.
      parts: Parts of the model that the variables hold and that are saved.
      variables: Collections `params` and `fixed` before training.
      batches: To learn from.
      objective: The loss.
      evaluate: `variables -> metrics`, on the validation split.
      match: Adds to a batch on the devices what is matched on the host, `(variables, batch) ->
        batch`; None where nothing is.
      draw: `variables -> picture` of a few examples, always the same ones; None without.
      loss_heads: Names in `params` that only the loss uses; they are not saved with the model.
    """

    model_config: UniOVSegConfig
    tokenizer: Tokenizer | None
    parts: tuple[str, ...]
    variables: dict[str, Any]
    batches: Batches
    objective: Objective
    evaluate: Callable[[Any], dict[str, float]]
    match: Callable[[Any, Any], Any] | None = None
    draw: Callable[[Any], UInt8[np.ndarray, "h w 3"]] | None = None
    loss_heads: tuple[str, ...] = ()


def make_model(config: ml_collections.ConfigDict) -> UniOVSeg:
    """Returns the model of a configuration.

    Raises:
      ValueError: If its fields make no model, or `dtype` is none of the two.
    """
    if config.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is {config.dtype!r}; expected float32 or bfloat16.")
    model_config = config_from_dict(config.model.to_dict())
    return UniOVSeg(model_config, jnp.dtype(config.dtype), config.recompute)


def prepare_tinyscenes(config: ml_collections.ConfigDict, workdir: pathlib.Path, part: str) -> Any:
    """Renders the part that a phase reads, unless it is there; returns the world's folder."""
    from uniovseg_jax.data.tfds.tinyscenes.builder import SIZES, TINY_SIZES

    sizes = {"full": SIZES, "tiny": TINY_SIZES}
    if config.data.sizes not in sizes:
        raise ValueError(f"data.sizes is {config.data.sizes!r}; expected full or tiny.")
    directory = pathlib.Path(config.data.directory or workdir / "data")
    return tinyscenes.prepare(directory, config.data.seed, (part,), sizes[config.data.sizes])


def make_batches(source: Any, transform: Any, config: ml_collections.ConfigDict, seed: int) -> Any:
    """Returns this process's share of endless batches, in the order that the seed says."""
    share = (jax.process_index(), jax.process_count())
    return pipeline.make_batches(
        source, transform, config.batch_size, seed, share, config.loader_threads
    )
