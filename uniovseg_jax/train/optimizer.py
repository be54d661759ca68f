"""AdamW behind gradient clipping, with a schedule and rules for weight decay."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import traverse_util

from uniovseg_jax.train import state as state_lib


def make_schedule(config: ml_collections.ConfigDict, total_steps: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    Args:
      config: `learning_rate`, `schedule` (`cosine` to 0, `multistep` or `constant`),
        `warmup_steps` (linear from 0), and for `multistep` the `milestones` as fractions of the
        run, each of which multiplies the rate by `gamma`.
      total_steps: Length of the run.

    Raises:
      ValueError: If the schedule is unknown or the warm-up does not fit into the run.
    """
    if not 0 <= config.warmup_steps < total_steps:
        raise ValueError(
            f"optimizer.warmup_steps is {config.warmup_steps}; expected less than the "
            f"{total_steps} steps of the run."
        )
    decay_steps = total_steps - config.warmup_steps
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.learning_rate, decay_steps)
    elif config.schedule == "multistep":
        steps = {
            round(m * total_steps) - config.warmup_steps: config.gamma for m in config.milestones
        }
        main = optax.piecewise_constant_schedule(config.learning_rate, steps)
    elif config.schedule == "constant":
        main = optax.constant_schedule(config.learning_rate)
    else:
        raise ValueError(
            f"optimizer.schedule is {config.schedule!r}; expected cosine, multistep or constant."
        )
    if not config.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return optax.join_schedules([warmup, main], [config.warmup_steps])


def make_optimizer(
    config: ml_collections.ConfigDict, params: dict[str, Any], schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns AdamW with clipping by the global norm.

    Args:
      config: `b1`, `b2`, `eps`, `weight_decay`, `clip_norm`, and `no_decay`, regular expressions
        over the paths of parameters that get no weight decay.
      params: The parameters that train.
      schedule: Learning rate by step.

    Raises:
      ValueError: If an expression matches nothing.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    state_lib.check_patterns(config.no_decay, flat, "optimizer.no_decay")
    decayed = traverse_util.unflatten_dict(
        {path: not state_lib.matches(path, config.no_decay) for path in flat}, sep="/"
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )


def update_ema(ema: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Returns the moving average of parameters after `step` updates.

    Early on the average is shorter, so that it does not drag the first values along.
    """
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, ema, rate)
