"""A step that went wrong, kept so that it can be run again and looked into."""

import json
import pathlib
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import traverse_util

from uniovseg_jax.files import write_whole
from uniovseg_jax.train import phases, sharding
from uniovseg_jax.train.state import TrainState, merge_variables, split_variables


def write_bundle(
    workdir: pathlib.Path, config: ml_collections.ConfigDict, state: TrainState, batch: Any
) -> pathlib.Path | None:
    """Keeps what the last step computed from: `<workdir>/replay/step_<n>.npz`.

    Args:
      workdir: Of the run.
      config: Of the run.
      state: After that step, whose parameters it left as they were.
      batch: What it saw, on the devices.

    Returns:
      The file, which the first process writes: arrays under `params/` and `batch/`, the step's key,
      and the configuration. None in the others.
    """
    trees = {"params": sharding.to_host(state.params), "batch": sharding.to_host(batch)}
    if jax.process_index() > 0:
        return None
    step = int(state.step)
    arrays = {"config": np.array(config.to_json_best_effort()), "step": np.array(step)}
    key = jax.random.fold_in(state.rng, step - 1)
    arrays["key"] = np.asarray(jax.random.key_data(key))
    for name, tree in trees.items():
        flat = traverse_util.flatten_dict(tree, sep="/")
        arrays |= {f"{name}/{path}": np.asarray(leaf) for path, leaf in flat.items()}
    path = workdir / "replay" / f"step_{step:06d}.npz"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, lambda temporary: np.savez(temporary, allow_pickle=False, **arrays))
    return path


def replay(bundle: pathlib.Path, workdir: pathlib.Path) -> dict[str, Any]:
    """Computes a kept step again.

    Args:
      bundle: From `write_bundle`.
      workdir: A folder for what the phase prepares, such as rendered data.

    Returns:
      "metrics" (with "loss"), and the names of what is not finite: "batch", "params" and
      "gradients".

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is no such bundle.
    """
    if not bundle.is_file():
        raise FileNotFoundError(f"There is no bundle {bundle}.")
    try:
        with np.load(bundle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        config = ml_collections.ConfigDict(json.loads(str(arrays["config"])))
        key = jax.random.wrap_key_data(arrays["key"])
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{bundle} is no replay bundle of a training run.") from error
    params, batch = (_subtree(arrays, name) for name in ("params", "batch"))
    if "verify" in config.data:
        config.data.verify = False  # The step's own data lie in the bundle.
    phase = phases.make_phase(config, workdir, sharding.make_mesh(1))
    _, frozen = split_variables(phase.variables, config.freeze)

    def loss_of(params: Any) -> Any:
        return phase.objective(merge_variables(params, frozen), batch, key)

    (loss, metrics), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params)
    return {
        "metrics": {name: float(value) for name, value in (metrics | {"loss": loss}).items()},
        "batch": _not_finite(batch),
        "params": _not_finite(params),
        "gradients": _not_finite(grads),
    }


def _subtree(arrays: dict[str, np.ndarray], name: str) -> Any:
    prefix = f"{name}/"
    flat = {path.removeprefix(prefix): x for path, x in arrays.items() if path.startswith(prefix)}
    return jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(flat, sep="/"))


def _not_finite(tree: Any) -> list[str]:
    return [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if np.issubdtype(np.asarray(leaf).dtype, np.floating) and not np.isfinite(leaf).all()
    ]
