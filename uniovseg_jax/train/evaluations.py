"""What a phase measures on its own validation split."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from uniovseg_jax.train import sharding
from uniovseg_jax.train.objectives import Batch, Objective
from uniovseg_jax.train.steps import add_up


def retrieval_recall(
    image_features: Float[np.ndarray, "n d"],
    text_features: Float[np.ndarray, "n d"],
    captions: Sequence[str],
    group_size: int,
) -> float:
    """Returns how often an image's own caption is the nearest of its group, in percent.

    Args:
      image_features: L2-normalised.
      text_features: L2-normalised; row i belongs to image i.
      captions: The texts; another image's caption that reads the same counts as right.
      group_size: Images per group, in order; a last, smaller group is left out unless it is the
        only one, so that every group is equally hard.
    """
    size = min(group_size, len(captions))
    right = []
    for start in range(0, len(captions) - size + 1, size):
        group = slice(start, start + size)
        nearest = np.argmax(image_features[group] @ text_features[group].T, axis=1)
        texts = captions[group]
        right += [texts[j] == texts[i] for i, j in enumerate(nearest)]
    return 100.0 * float(np.mean(right))


def mean_metrics(
    objective: Objective,
    batches: Sequence[Batch],
    prefix: str,
    mesh: Mesh,
    match: Callable[[Any, Batch], Batch] | None = None,
    accumulate: int = 1,
    whole: bool = False,
) -> Callable[[Any], dict[str, float]]:
    """Returns an evaluation that averages the loss and its metrics over fixed batches.

    The same random numbers are drawn at every evaluation, so that only the variables differ.

    Args:
      objective: The loss.
      batches: Numpy arrays, of each batch this process's share.
      prefix: Of the names of the metrics.
      mesh: Over which batches are split, as in training.
      match: As `phase.Phase` has it.
      accumulate: Parts into which a batch is split, as in training.
      whole: Every process holds all of each batch, and every device computes all of it; for small
        batches of any size.
    """
    objective = sharding.gather_first(objective, mesh)

    def measure(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        def measure_part(part: Batch, keys: jax.Array) -> dict[str, jax.Array]:
            loss, metrics = objective.compute_loss(variables, part, keys)
            return metrics | {"loss": loss}

        parts = objective.split_keys(batch, key)
        return measure_part(*parts) if accumulate == 1 else add_up(measure_part, parts, accumulate)

    compiled = jax.jit(measure, out_shardings=sharding.replicated(mesh))

    place = sharding.replicate if whole else sharding.shard_batch

    def evaluate(variables: Any) -> dict[str, float]:
        keys = jax.random.split(jax.random.key(0), len(batches))
        # Read at once, which also keeps a single program in flight.
        rows = []
        for batch, key in zip(batches, keys, strict=True):
            placed = place(batch, mesh)
            matched = match(variables, placed) if match else placed
            rows.append(sharding.to_host(compiled(variables, matched, key)))
        # The losses of single layers are for watching a run, not for its result.
        names = [name for name in rows[0] if "_layer_" not in name]
        return {f"{prefix}{name}": float(np.mean([row[name] for row in rows])) for name in names}

    return evaluate
