"""Where arrays live: a mesh over which batches are split, and states where rules say so."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from uniovseg_jax.train.objectives import Objective
from uniovseg_jax.train.state import TrainState, check_patterns

# Batches are split over both axes; parameters over the second one, where a rule says so.
_DATA, _FSDP = "data", "fsdp"
# Pairs of a regular expression over parameter paths and `split` or `replicate`; the first counts.
Rules = Sequence[tuple[str, str]]
_T = TypeVar("_T")
_MAX_MESSAGE = 2000  # Bytes.
# Splitting smaller parameters saves nothing and costs a message each.
_MIN_SPLIT_SIZE = 4096


def make_mesh(num_devices: int = 0, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Returns a mesh with the axes `data` and `fsdp` over the first devices.

    Args:
      num_devices: How many; 0 for all of them, those of other processes included.
      fsdp: Size of the second axis, over which parameters may be split; 0 for all devices.
      devices: Those to choose from; None for all that JAX sees.

    Raises:
      ValueError: If there are fewer devices, or `fsdp` does not divide them.
    """
    devices = jax.devices() if devices is None else devices
    if not 0 <= num_devices <= len(devices):
        raise ValueError(f"num_devices is {num_devices}, but there are {len(devices)} devices.")
    if num_devices and jax.process_count() > 1:
        raise ValueError(
            f"num_devices is {num_devices}, but all devices of several processes take part; "
            "expected 0."
        )
    devices = devices[: num_devices or len(devices)]
    fsdp = fsdp or len(devices)
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"fsdp is {fsdp}; expected a divisor of the {len(devices)} devices.")
    # In the order of the processes, which `jax.make_mesh` does not keep on every topology: then the
    # rows of a batch are those that one process would have made.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    # Automatic axes: the compiler places the collectives, as with pjit.
    return Mesh(
        np.array(devices).reshape(-1, fsdp),
        (_DATA, _FSDP),
        axis_types=(AxisType.Auto, AxisType.Auto),
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def split_by_example(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec((_DATA, _FSDP)))


def state_shardings(state: TrainState, mesh: Mesh, rules: Rules = ()) -> TrainState:
    """Returns the sharding of every leaf of a state, arranged like the state.

    A parameter that is to be split is so along its longest axis that the mesh's second one
    divides; its moments and its average follow it. Parameters that no rule names, small ones, and
    everything else are replicated.

    Args:
      state: Arrays, or their shapes.
      mesh: From `make_mesh`.
      rules: Such as `((".*/bias", "replicate"), (".*", "split"))`.

    Raises:
      ValueError: If an expression matches no parameter or a rule says neither of the two.
    """
    paths = {
        path
        for tree in (state.params, state.frozen["params"])
        for path in traverse_util.flatten_dict(tree, sep="/")
    }
    check_patterns([pattern for pattern, _ in rules], paths, "sharding_rules")
    for pattern, verdict in rules:
        if verdict not in ("split", "replicate"):
            raise ValueError(
                f"sharding_rules: {pattern!r} has {verdict!r}; expected split or replicate."
            )

    def sharding(key_path: Any, leaf: Any) -> NamedSharding:
        words = jax.tree_util.keystr(key_path, simple=True, separator="/").split("/")
        tails = ("/".join(words[i:]) for i in range(len(words)))
        path = next((tail for tail in tails if tail in paths), None)
        verdicts = (verdict for pattern, verdict in rules if path and re.fullmatch(pattern, path))
        if next(verdicts, "replicate") == "replicate":
            return replicated(mesh)
        return NamedSharding(mesh, _split_spec(np.shape(leaf), mesh.shape[_FSDP]))

    return jax.tree_util.tree_map_with_path(sharding, state)


def _split_spec(shape: tuple[int, ...], count: int) -> PartitionSpec:
    sizes = [size if size % count == 0 else 0 for size in shape]
    if count == 1 or np.prod(shape) < _MIN_SPLIT_SIZE or not any(sizes):
        return PartitionSpec()
    axis = int(np.argmax(sizes))
    return PartitionSpec(*(_FSDP if i == axis else None for i in range(len(shape))))


def check_batch_size(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
    """Raises ValueError unless every part of the batch divides evenly among the devices."""
    if accumulate < 1:
        raise ValueError(f"accumulate is {accumulate}; expected at least 1.")
    if batch_size < 1 or batch_size % (mesh.size * accumulate):
        parts = f" times the {accumulate} parts of accumulate" if accumulate > 1 else ""
        raise ValueError(
            f"batch_size is {batch_size}; expected a positive multiple of the {mesh.size} "
            f"devices{parts}."
        )


def place_state(state: TrainState, shardings: TrainState) -> TrainState:
    """Copies a state, the same one in every process, to where it lives."""
    return jax.tree.map(_place, state, shardings)


def _place(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_place(jax.random.key_data(leaf), sharding))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def shard_batch(batch: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Copies numpy arrays to the devices, split along the first axis.

    Each process gives its own share; in the order of the processes they make up the batch.
    """
    sharding = split_by_example(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays, the same ones in every process, to every device."""
    return jax.tree.map(lambda leaf: _place(leaf, replicated(mesh)), tree)


def local_rows(array: jax.Array) -> np.ndarray:
    """Returns what this process holds of an array that is split along its first axis."""
    rows = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(rows[start]) for start in sorted(rows)])


def like_rows(local: np.ndarray, array: jax.Array | np.ndarray) -> jax.Array:
    """Places rows that go with those that this process holds of an array."""
    if not isinstance(array, jax.Array):
        return jnp.asarray(local)
    return jax.make_array_from_process_local_data(array.sharding, local)


def to_host(tree: Any) -> Any:
    """Returns whole numpy arrays of what may be spread over devices and processes."""

    def gather(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            if not leaf.is_fully_replicated:
                return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(gather, tree)


def is_true_anywhere(value: bool) -> bool:
    """Tells every process whether one of them says so."""
    if jax.process_count() == 1:
        return value
    return bool(np.any(multihost_utils.process_allgather(np.array(value))))


def in_first_process(action: Callable[[], _T]) -> _T | None:
    """Does something in the first process; returns None in the others.

    Raises:
      ValueError: In every process, where the first one meets a ValueError or an OSError.
    """
    if jax.process_count() == 1:
        return action()
    result, message = None, b""
    if jax.process_index() == 0:
        try:
            result = action()
        except (ValueError, OSError) as error:
            message = str(error).encode()[:_MAX_MESSAGE]
    buffer = np.zeros(_MAX_MESSAGE, np.uint8)
    buffer[: len(message)] = np.frombuffer(message, np.uint8)
    message = np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes().rstrip(b"\0")
    if message:
        raise ValueError(message.decode(errors="replace"))
    return result


def wait_for_all(reason: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def gathered(variables: Any, mesh: Mesh) -> Any:
    """Makes a program collect variables in full on every device before it uses them."""
    return jax.lax.with_sharding_constraint(variables, replicated(mesh))


def gather_first(objective: Objective, mesh: Mesh) -> Objective:
    """Returns the loss of variables that every device first collects in full.

    Where parameters are split, the compiler is free to collect maps of the whole batch instead,
    which are hundreds of times larger. Gradients are summed and split again for the optimizer.
    """

    def compute_loss(variables: Any, batch: Any, keys: Any) -> Any:
        return objective.compute_loss(gathered(variables, mesh), batch, keys)

    return dataclasses.replace(objective, compute_loss=compute_loss)


def compile_step(step: Callable[..., Any], mesh: Mesh, shardings: TrainState) -> Callable[..., Any]:
    """Returns the jitted `(state, batch) -> (state, metrics)`; the old state's memory is reused.

    Args:
      step: From `steps.make_train_step`.
      mesh: Where batches live.
      shardings: Where the state lives, before and after.
    """
    return jax.jit(
        step,
        in_shardings=(shardings, split_by_example(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
