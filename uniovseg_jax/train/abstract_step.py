"""A training step with the shapes of all that it reads, before any weight or picture exists."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from uniovseg_jax import losses
from uniovseg_jax.models.adapter import source_names, source_widths
from uniovseg_jax.models.presets import UniOVSegConfig, config_from_dict
from uniovseg_jax.models.uniovseg import Part, UniOVSeg, abstract_variables
from uniovseg_jax.train import optimizer as optimizer_lib
from uniovseg_jax.train import steps
from uniovseg_jax.train.state import TrainState, create_state, split_variables

Shapes = dict[str, Any]


def make_abstract_step(
    config: ml_collections.ConfigDict, batch_size: int
) -> tuple[Callable[..., Any], TrainState, Shapes]:
    """Returns the step of a phase, and shapes and dtypes of its state and batch.

    Args:
      config: Of phase `stage1` or `stage2`.
      batch_size: Examples in the batch, over all devices.

    Raises:
      ValueError: If the phase is another one.
    """
    model_config = config_from_dict(config.model.to_dict())
    model = UniOVSeg(model_config, jnp.dtype(config.dtype), config.recompute)
    parts: tuple[Part, ...]
    if config.phase == "stage1":
        parts = ("clip", "masks")
        batch = _stage1_batch(config, model_config, batch_size)
        loss_config = losses.Stage1LossConfig(**config.loss)
        if not model_config.quality_head:
            loss_config = dataclasses.replace(loss_config, iou_weight=0.0)
        compute_loss = steps.make_stage1_loss(model, loss_config)
    elif config.phase == "stage2":
        parts = ("clip", "masks", "adapter")
        batch = _stage2_batch(model_config, batch_size)
        compute_loss = steps.make_stage2_loss(model, config.loss.name)
    else:
        raise ValueError(f"phase is {config.phase!r}; expected stage1 or stage2.")

    variables = abstract_variables(model_config, parts)
    schedule = optimizer_lib.make_schedule(config.optimizer, config.total_steps)
    trained, _ = split_variables(variables, config.freeze)
    optimizer = optimizer_lib.make_optimizer(config.optimizer, trained, schedule)
    state = jax.eval_shape(
        lambda variables: create_state(
            variables, config.freeze, optimizer, config.seed, use_ema=config.ema_decay > 0
        ),
        variables,
    )
    step = steps.make_train_step(compute_loss, optimizer, schedule, config.ema_decay)
    return step, state, batch


def _stage1_batch(
    config: ml_collections.ConfigDict, model: UniOVSegConfig, batch_size: int
) -> Shapes:
    side, data = model.image_size, config.data
    shape = jax.ShapeDtypeStruct
    return {
        "image": shape((batch_size, side, side, 3), jnp.uint8),
        "masks": shape((batch_size, data.max_instances, side, side), jnp.bool_),
        "mask_valid": shape((batch_size, data.max_instances), jnp.bool_),
        "points": shape((batch_size, data.points_per_side**2, 2), jnp.float32),
        "boxes": shape((batch_size, data.num_boxes, 4), jnp.float32),
        "box_index": shape((batch_size, data.num_boxes), jnp.int32),
        "box_valid": shape((batch_size, data.num_boxes), jnp.bool_),
    }


def _stage2_batch(model: UniOVSegConfig, batch_size: int) -> Shapes:
    assert model.adapter is not None
    widths = source_widths(model) | {"clip": model.clip.widths[-1]}
    shape = jax.ShapeDtypeStruct
    return {
        "pooled": {
            name: shape((batch_size, widths[name]), jnp.float32)
            for name in ("clip", *source_names(model.adapter))
        },
        "text": shape((batch_size, model.clip.embed_dim), jnp.float32),
        "entity": shape((batch_size,), jnp.int32),
    }
