"""What a phase measures on its own validation split."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from uniovseg_jax.train.objectives import Batch, Objective


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
    batches: Iterable[Batch],
    prefix: str,
    match: Callable[[Any, Batch], Batch] | None = None,
) -> Callable[[Any], dict[str, float]]:
    """Returns an evaluation that averages the loss and its metrics over fixed batches.

    The same random numbers are drawn at every evaluation, so that only the variables differ.

    Args:
      objective: The loss.
      batches: Numpy arrays.
      prefix: Of the names of the metrics.
      match: As `phase.Phase` has it.
    """
    batches = list(batches)

    @jax.jit
    def measure(variables: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        loss, metrics = objective(variables, batch, key)
        return metrics | {"loss": loss}

    def evaluate(variables: Any) -> dict[str, float]:
        keys = jax.random.split(jax.random.key(0), len(batches))
        # Read at once, which also keeps a single program in flight.
        rows = []
        for batch, key in zip(batches, keys, strict=True):
            matched = match(variables, batch) if match else batch
            rows.append(jax.device_get(measure(variables, matched, key)))
        # The losses of single layers are for watching a run, not for its result.
        names = [name for name in rows[0] if "_layer_" not in name]
        return {f"{prefix}{name}": float(np.mean([row[name] for row in rows])) for name in names}

    return evaluate
