"""Devices of a TPU slice that is not at hand, to compile programs for it."""

import importlib.util
from typing import Any

from jax.experimental import topologies


def topology_devices(name: str) -> list[Any]:
    """Returns the devices of a TPU topology.

    Programs can be compiled for it, not run. Expects TPU_SKIP_MDS_QUERY=1 in the environment;
    without it, libtpu asks the network which machine it is on.

    Args:
      name: Kind of chip and their arrangement, such as `v5e:2x4`.

    Raises:
      ValueError: If libtpu is not installed or does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("libtpu is not installed; expected it beside JAX: pip install 'jax[tpu]'.")
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:  # libtpu's own kinds of error, which differ between versions.
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"topology is {name!r}; expected one that libtpu knows, such as v5e:2x4, v6e:2x4 or "
            f"v5p:2x2x1 ({reason})."
        ) from error
    return list(topology.devices)
