"""What a training step reads and writes, and which variables train."""

import re
from collections.abc import Iterable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

Tree = dict[str, Any]


@flax.struct.dataclass
class TrainState:
    """The whole of a run's changing state, or something said of each of its leaves.

    Attributes:
      step: () int32. Number of batches seen.
      params: Parameters that train, as a tree that leaves out the frozen ones.
      frozen: Collections `params` (the rest) and `fixed`; no gradient or optimizer state exists
        for them.
      opt_state: Of the optimizer, for `params` only.
      rng: Base key; step `i` uses `fold_in(rng, i)`.
      ema: Moving average of `params`; None where it is off.
      skipped: () int32. Number of steps without an update, because something was not finite.
      skipped_in_row: () int32. The same, since the last update.
    """

    step: Any
    params: Any
    frozen: Any
    opt_state: Any
    rng: Any
    ema: Any
    skipped: Any
    skipped_in_row: Any

    @property
    def saved_params(self) -> Tree:
        """The parameters that are evaluated and saved: the average where there is one."""
        return self.params if self.ema is None else self.ema


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Tells whether one of the regular expressions matches the whole path."""
    return any(re.fullmatch(pattern, path) for pattern in patterns)


def check_patterns(patterns: Iterable[str], paths: Iterable[str], field: str) -> None:
    """Raises ValueError naming the first pattern that matches no path: it is a typing error."""
    paths = list(paths)
    for pattern in patterns:
        if not any(re.fullmatch(pattern, path) for path in paths):
            raise ValueError(f"{field}: {pattern!r} matches no parameter of this model.")


def split_variables(variables: Tree, freeze: Iterable[str]) -> tuple[Tree, Tree]:
    """Separates what trains from what does not.

    Args:
      variables: Collections `params` and `fixed`.
      freeze: Regular expressions over paths such as `clip/visual/stem/kernel`.

    Returns:
      The trained parameters, and collections `params` and `fixed` of all others.

    Raises:
      ValueError: If an expression matches nothing, or nothing is left to train.
    """
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    freeze = tuple(freeze)
    check_patterns(freeze, flat, "freeze")
    trained = {path: leaf for path, leaf in flat.items() if not matches(path, freeze)}
    if not trained:
        raise ValueError("freeze: every parameter is frozen; nothing is left to train.")
    rest = {path: leaf for path, leaf in flat.items() if path not in trained}
    frozen = {
        "params": traverse_util.unflatten_dict(rest, sep="/"),
        "fixed": variables.get("fixed", {}),
    }
    return traverse_util.unflatten_dict(trained, sep="/"), frozen


def merge_variables(params: Tree, frozen: Tree) -> Tree:
    """Puts together again what `split_variables` took apart."""
    flat = traverse_util.flatten_dict(frozen["params"], sep="/")
    flat |= traverse_util.flatten_dict(params, sep="/")
    return {"params": traverse_util.unflatten_dict(flat, sep="/"), "fixed": frozen["fixed"]}


def create_state(
    variables: Tree,
    freeze: Iterable[str],
    optimizer: optax.GradientTransformation,
    seed: int,
    use_ema: bool,
) -> TrainState:
    """Returns the state before the first step."""
    params, frozen = split_variables(variables, freeze)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen=frozen,
        opt_state=optimizer.init(params),
        rng=jax.random.key(seed),
        # A copy: the step gives the memory of its inputs away, each buffer once.
        ema=jax.tree.map(jnp.copy, params) if use_ema else None,
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_row=jnp.zeros((), jnp.int32),
    )
