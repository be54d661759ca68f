"""Copies of weights on the devices of a machine, each made once."""

from typing import Any

import jax


class DeviceCopies:
    """Gives a tree of arrays on the device that is asked for; everyone there shares one copy."""

    def __init__(self, tree: Any):
        self._tree = tree
        self._on: dict[Any, Any] = {}

    def __call__(self, device: Any) -> Any:
        """Returns the tree on a device of `jax.local_devices()`."""
        if device not in self._on:
            self._on[device] = jax.device_put(self._tree, device)
        return self._on[device]
