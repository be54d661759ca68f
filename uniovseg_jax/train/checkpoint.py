"""Checkpoints: the training state together with the position in the data. Only user of Orbax."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from uniovseg_jax.train.state import TrainState


class Checkpointer:
    """Keeps the last checkpoints of a run in `<workdir>/checkpoints`.

    Frozen variables are not written, since they can be loaded again; a digest makes sure that they
    are the same ones. Each checkpoint also carries a digest of what it holds, because Orbax
    restores flipped bits without complaint.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 2):
        """Opens the directory, which is made when needed."""
        self._directory = (workdir / "checkpoints").absolute()
        # Written before save() returns: a background copy could see memory that the next step,
        # which reuses its input's buffers, has overwritten.
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, state: TrainState, data_state: Any, progress: dict[str, Any]) -> None:
        """Writes a checkpoint of the state's step; an existing one of that step is kept.

        Args:
          state: The training state.
          data_state: `get_state()` of the batch iterator; JSON types.
          progress: What the loop itself remembers; JSON types.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        tree = _saved_part(state)
        notes = {
            "data": data_state,
            "progress": progress,
            "sha256": _digest(tree),
            "frozen_sha256": _digest(state.frozen),
        }
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(notes)
        )
        self._manager.save(step, args=items)

    def restore(self, state: TrainState) -> tuple[TrainState, Any, dict[str, Any]] | None:
        """Returns state, data position and progress of the last checkpoint; None without one.

        Args:
          state: A fresh state of the same run; gives shapes, shardings and frozen variables.

        Raises:
          ValueError: If the checkpoint is damaged or belongs to another configuration.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        where = self._directory / str(step)
        notes = self._manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore()))[
            "notes"
        ]
        if notes["frozen_sha256"] != _digest(state.frozen):
            raise ValueError(
                f"{where} was written with other frozen parameters; expected the same init, "
                "freeze and seed as before."
            )
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _saved_part(state))
        try:
            tree = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
            )["state"]
        except Exception as error:  # Orbax raises many kinds for shapes and structures.
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{where} does not fit this configuration, or is damaged: {reason}"
            ) from error
        if notes["sha256"] != _digest(tree):
            raise ValueError(f"{where} is damaged: its contents do not match their digest.")
        tree["rng"] = jax.random.wrap_key_data(tree["rng"])
        return dataclasses.replace(state, **tree), notes["data"], notes["progress"]

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()


def _saved_part(state: TrainState) -> dict[str, Any]:
    tree = {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "rng": jax.random.key_data(state.rng),
    }
    return tree if state.ema is None else tree | {"ema": state.ema}


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf, order="C")
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
