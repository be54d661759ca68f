"""The update of one batch: gradients, in parts if asked for, and what happens to bad ones."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from uniovseg_jax.train.objectives import Batch, Metrics, Objective
from uniovseg_jax.train.optimizer import update_ema
from uniovseg_jax.train.state import TrainState, merge_variables


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the update of one batch, `(state, batch) -> (state, metrics)`.

    Gradients are taken for `state.params` only; nothing is differentiated or kept for the rest.
    Metrics are those of the loss, `loss`, `grad_norm` (before clipping), `learning_rate`, and
    `skipped` and `skipped_in_row`: where the loss or a gradient is not finite, parameters,
    optimizer and average stay as they are.

    Args:
      objective: The loss.
      optimizer: Updates `state.params`.
      schedule: Learning rate by step, for the metrics.
      ema_decay: Of the moving average, where the state holds one.
      accumulate: Parts into which the batch is split, one after the other; their gradients add up
        to those of the whole.

    Raises:
      ValueError: If the batch is to be split, and the loss is no sum over its examples.
    """
    if accumulate > 1 and objective.prepare is None:
        raise ValueError(
            f"accumulate is {accumulate}, but the loss of this phase compares all examples of a "
            "batch; expected 1."
        )

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def loss_of(params: Any, part: Batch, keys: jax.Array) -> tuple[Float[Array, ""], Metrics]:
            return objective.compute_loss(merge_variables(params, state.frozen), part, keys)

        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        parts = objective.split_keys(batch, jax.random.fold_in(state.rng, state.step))
        if accumulate == 1:
            (loss, metrics), grads = differentiate(state.params, *parts)
        else:
            (loss, metrics), grads = add_up(
                functools.partial(differentiate, state.params), parts, accumulate
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            ema = update_ema(ema, params, state.step, ema_decay)
        grad_norm = optax.tree.norm(grads)
        good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        params, opt_state, ema = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (params, opt_state, ema),
            (state.params, state.opt_state, state.ema),
        )
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            ema=ema,
            skipped=state.skipped + ~good,
            skipped_in_row=jnp.where(good, 0, state.skipped_in_row + 1),
        )
        metrics = metrics | {
            "loss": loss,
            "grad_norm": grad_norm,
            "learning_rate": schedule(state.step - 1),
            "skipped": state.skipped,
            "skipped_in_row": state.skipped_in_row,
        }
        return state, metrics

    return step


def add_up(function: Callable[..., Any], parts: tuple[Batch, jax.Array], count: int) -> Any:
    """Returns the sum of `function` over a batch that is split into `count` parts.

    Args:
      function: Of some examples and their keys.
      parts: All examples, and their keys.
      count: A divisor of their number.
    """

    # Every count-th example, so that each part lies spread over the devices as the batch does.
    def split(x: Array) -> Array:
        return jnp.swapaxes(x.reshape(len(x) // count, count, *x.shape[1:]), 0, 1)

    parts = jax.tree.map(split, parts)
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first))

    def body(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    return jax.lax.scan(body, zeros, parts)[0]
