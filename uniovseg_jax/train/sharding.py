"""Where arrays live: one mesh axis `data` over which batches are split; states are replicated."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(num_devices: int = 0) -> Mesh:
    """Returns a mesh with the single axis `data` over the first devices (0: all of them).

    Raises:
      ValueError: If there are fewer devices.
    """
    devices = jax.devices()
    if not 0 <= num_devices <= len(devices):
        raise ValueError(f"num_devices is {num_devices}, but there are {len(devices)} devices.")
    devices = devices[: num_devices or len(devices)]
    # Automatic axes: the compiler places the collectives, as with pjit.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_example(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless the batch divides evenly among the devices."""
    if batch_size < 1 or batch_size % mesh.size:
        raise ValueError(
            f"batch_size is {batch_size}; expected a positive multiple of the {mesh.size} devices."
        )


def shard_batch(batch: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Copies a batch of numpy arrays to the devices, split along the first axis."""
    return jax.device_put(jax.tree.map(np.asarray, batch), split_by_example(mesh))


def compile_step(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns the jitted `(state, batch) -> (state, metrics)`; the old state's memory is reused."""
    return jax.jit(
        step,
        in_shardings=(replicated(mesh), split_by_example(mesh)),
        out_shardings=(replicated(mesh), replicated(mesh)),
        donate_argnums=0,
    )
