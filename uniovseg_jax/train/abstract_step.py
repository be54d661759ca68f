"""A training step compiled from shapes alone, before any weight or picture exists."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh

from uniovseg_jax import flops
from uniovseg_jax.losses.stage1 import Stage1LossConfig
from uniovseg_jax.models.adapter import source_names, source_widths
from uniovseg_jax.models.presets import UniOVSegConfig, config_from_dict
from uniovseg_jax.models.uniovseg import Part, abstract_variables
from uniovseg_jax.train import objectives, sharding, steps
from uniovseg_jax.train import optimizer as optimizer_lib
from uniovseg_jax.train.phase import make_model
from uniovseg_jax.train.state import TrainState, create_state, split_variables

Shapes = dict[str, Any]


def compile_for(config: ml_collections.ConfigDict, mesh: Mesh) -> Any:
    """Compiles the step for the devices of a mesh of TPUs, which need not exist.

    Raises:
      ValueError: If the phase is not `stage1` or `stage2`, or the batch does not divide evenly.
      MemoryError: If the compiler finds that a device's memory is too small.
    """
    sharding.check_batch_size(config.batch_size, mesh, config.accumulate)
    step, state, batch = make_abstract_step(config, mesh)
    shardings = sharding.state_shardings(state, mesh, config.sharding_rules)
    traced = sharding.compile_step(step, mesh, shardings).trace(state, batch)
    try:
        return traced.lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(str(error).strip()) from error
        raise


def needed_flops(config: ml_collections.ConfigDict) -> float:
    """Returns the floating-point operations of a step that its result needs, on all devices."""
    model = config_from_dict(config.model.to_dict())
    if config.phase == "stage2":
        return 2.0 * config.batch_size * flops.stage2_macs(model)
    num_drawn = Stage1LossConfig(**config.loss).num_drawn
    macs = flops.stage1_macs(
        model, config.data.points_per_side**2, config.data.num_boxes, num_drawn
    )
    return 2.0 * config.batch_size * macs


def make_abstract_step(
    config: ml_collections.ConfigDict, mesh: Mesh
) -> tuple[Callable[..., Any], TrainState, Shapes]:
    """Returns the step of a phase, and shapes and dtypes of its state and batch.

    Args:
      config: Of phase `stage1` or `stage2`.
      mesh: Where the step is to run.

    Raises:
      ValueError: If the phase is another one.
    """
    model = make_model(config)
    model_config = model.config
    parts: tuple[Part, ...]
    if config.phase == "stage1":
        parts = ("clip", "masks")
        batch = _stage1_batch(config, model_config)
        objective = objectives.make_stage1_loss(model, Stage1LossConfig(**config.loss))
    elif config.phase == "stage2":
        parts = ("clip", "masks", "adapter")
        batch = _stage2_batch(config, model_config)
        objective = objectives.make_stage2_loss(model, config.loss.name)
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
    step = steps.make_train_step(
        sharding.gather_first(objective, mesh),
        optimizer,
        schedule,
        config.ema_decay,
        config.accumulate,
    )
    return step, state, batch


def _stage1_batch(config: ml_collections.ConfigDict, model: UniOVSegConfig) -> Shapes:
    batch_size, side, data = config.batch_size, model.image_size, config.data
    shape = jax.ShapeDtypeStruct
    colours = {
        "colours": shape((batch_size, 5), jnp.float32),
        "content_hw": shape((batch_size, 2), jnp.int32),
    }
    return {
        "image": shape((batch_size, side, side, 3), jnp.uint8),
        "mask_bits": shape((batch_size, data.max_instances, side, side // 8), jnp.uint8),
        "mask_valid": shape((batch_size, data.max_instances), jnp.bool_),
        "points": shape((batch_size, data.points_per_side**2, 2), jnp.float32),
        "boxes": shape((batch_size, data.num_boxes, 4), jnp.float32),
        "box_index": shape((batch_size, data.num_boxes), jnp.int32),
        "box_valid": shape((batch_size, data.num_boxes), jnp.bool_),
        **(colours if data.colour_jitter else {}),
    }


def _stage2_batch(config: ml_collections.ConfigDict, model: UniOVSegConfig) -> Shapes:
    batch_size = config.batch_size
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
        "valid": shape((batch_size,), jnp.bool_),
    }
