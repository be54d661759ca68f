"""Checkpoints: the training state together with the position in the data. Only user of Orbax."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from uniovseg_jax.train import sharding
from uniovseg_jax.train.state import TrainState


class Checkpointer:
    """Keeps the last checkpoints of a run in `<workdir>/checkpoints`.

    Frozen variables are not written, since they can be loaded again; a digest makes sure that they
    are the same ones. Each checkpoint also carries a digest of every array in it, because Orbax
    restores flipped bits without complaint, and its shape and type, because Orbax casts silently.
    """

    def __init__(self, workdir: pathlib.Path, frozen: Any, keep: int = 2):
        """Opens the directory, which is made when needed.

        Args:
          workdir: Of the run.
          frozen: Variables that do not change.
          keep: Number of checkpoints to keep.
        """
        self._directory = (workdir / "checkpoints").absolute()
        self._damaged = (workdir / "damaged_checkpoints").absolute()
        self._frozen_sha256 = _digest(json.dumps(_describe(frozen), sort_keys=True).encode())
        self._keep = keep
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        # Written before save() returns: a background copy could see memory that the next step,
        # which reuses its input's buffers, has overwritten.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, enable_async_checkpointing=False
        )
        return ocp.CheckpointManager(self._directory, options=options)

    def save(self, state: TrainState, data_state: Any, progress: dict[str, Any]) -> None:
        """Writes a checkpoint of the state's step; an existing one of that step is kept.

        Args:
          state: The training state.
          data_state: `get_state()` of the batch iterator; JSON types.
          progress: What the loop itself remembers; JSON types.

        Raises:
          OSError: If it cannot be written; earlier checkpoints are as they were.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        tree = _saved_part(state)
        text = json.dumps(
            {
                "data": data_state,
                "progress": progress,
                "arrays": _describe(tree),
                "frozen_sha256": self._frozen_sha256,
            }
        )
        # As text beside its digest, so that a flipped bit is noticed here as well.
        notes = {"text": text, "sha256": _digest(text.encode())}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(notes)
        )
        try:
            self._manager.save(step, args=items)
        except Exception as error:  # TensorStore raises ValueError for a full disk, too.
            reason = " ".join(str(error).split())[:300]
            raise OSError(
                f"The checkpoint of step {step} cannot be written to {self._directory}: {reason}"
            ) from error

    def restore(self, state: TrainState) -> tuple[TrainState, Any, dict[str, Any]] | None:
        """Returns state, data position and progress of the last good checkpoint; None without one.

        A damaged checkpoint is moved to `<workdir>/damaged_checkpoints`, and the one before it
        takes its place.

        Args:
          state: A fresh state of the same run; gives shapes, shardings and frozen variables.

        Raises:
          ValueError: If the checkpoint belongs to another configuration, or all are damaged.
        """
        complaints = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, complaint = None, "another process cannot read it."
            try:
                restored = self._restore_step(step, state)
            except _DamagedError as error:
                complaint = str(error)
            if not sharding.is_true_anywhere(restored is None):
                return restored
            complaints.append(f"{self._directory / str(step)} is damaged: {complaint}")
            logging.warning("%s It is left out.", complaints[-1])
            self._set_aside(step)
        if complaints:
            raise ValueError(
                f"No checkpoint is left to go on from. {' '.join(complaints)} They lie in "
                f"{self._damaged}; empty the working directory to start anew."
            )
        return None

    def close(self) -> None:
        """Releases Orbax's threads."""
        self._manager.close()

    def _restore_step(self, step: int, state: TrainState) -> tuple[TrainState, Any, dict[str, Any]]:
        where = self._directory / str(step)
        try:
            notes = self._manager.restore(
                step, args=ocp.args.Composite(notes=ocp.args.JsonRestore())
            )["notes"]
            text, sha256 = notes["text"], notes["sha256"]
        except PermissionError:
            raise
        except Exception as error:  # Orbax raises many kinds for missing and broken files.
            raise _DamagedError(_reason(error)) from error
        if _digest(text.encode()) != sha256:
            raise _DamagedError("its notes do not match their digest.")
        notes = json.loads(text)
        target = _saved_part(state)
        _check_same_arrays(notes["arrays"], target, where)
        if notes["frozen_sha256"] != self._frozen_sha256:
            raise ValueError(
                f"{where} was written with other frozen parameters; expected the same init, "
                "freeze and seed as before."
            )
        try:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
            tree = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )["state"]
        except (PermissionError, jax.errors.JaxRuntimeError):
            raise  # Nothing is wrong with the files: a device may be out of memory.
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        found = _describe(tree)
        bad = [path for path, entry in notes["arrays"].items() if found[path] != entry]
        if bad:
            raise _DamagedError(f"{', '.join(bad[:3])} do not match their digests.")
        tree["rng"] = jax.random.wrap_key_data(tree["rng"])
        return dataclasses.replace(state, **tree), notes["data"], notes["progress"]

    def _set_aside(self, step: int) -> None:
        self._manager.close()
        if jax.process_index() == 0:
            self._damaged.mkdir(exist_ok=True)
            target = self._damaged / str(step)
            if target.exists():
                shutil.rmtree(target)
            os.replace(self._directory / str(step), target)
        sharding.wait_for_all("a damaged checkpoint is set aside")
        self._manager = self._open()


class _DamagedError(Exception):
    """A checkpoint that was whole once and is not any more."""


def _saved_part(state: TrainState) -> dict[str, Any]:
    names = ("step", "params", "opt_state", "skipped", "skipped_in_row")
    tree = {name: getattr(state, name) for name in names}
    tree["rng"] = jax.random.key_data(state.rng)
    return tree if state.ema is None else tree | {"ema": state.ema}


def _describe(tree: Any) -> dict[str, list[Any]]:
    """Returns type, shape and digest of every array by its path; one array at a time is copied."""
    described = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(sharding.to_host(leaf), order="C")
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        described[name] = [str(array.dtype), list(array.shape), _digest(array.tobytes())]
    return described


def _check_same_arrays(found: dict[str, list[Any]], target: Any, where: pathlib.Path) -> None:
    """Compares paths, types and shapes, before anything is read."""
    expected = {
        jax.tree_util.keystr(path, simple=True, separator="/"): [str(leaf.dtype), list(leaf.shape)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(target)
    }
    kinds = {path: entry[:2] for path, entry in found.items()}
    wrong = sorted(p for p in expected | kinds if expected.get(p) != kinds.get(p))
    if wrong:
        lines = [
            f"{path} is {_show(kinds.get(path))}, expected {_show(expected.get(path))}"
            for path in wrong[:5]
        ]
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{where} does not fit this configuration: {'; '.join(lines)}{more}.")


def _show(entry: list[Any] | None) -> str:
    return "missing" if entry is None else f"{entry[0]}{entry[1]}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
