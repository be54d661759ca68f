"""The one place that chooses an implementation by platform."""

from collections.abc import Callable
from typing import Any

import jax


def by_platform(
    *args: Any,
    cpu: Callable[..., Any],
    accelerator: Callable[..., Any],
    tpu: Callable[..., Any] | None = None,
) -> Any:
    """Calls `cpu(*args)` on CPU, `tpu(*args)` on TPU and `accelerator(*args)` elsewhere.

    The choice is made when the program is lowered, so one traced program serves every platform.
    Call it inside the forward and the backward rule of a `jax.custom_vjp`: automatic
    differentiation then never looks through the switch.

    Args:
      *args: Arrays (or trees of them) passed on.
      cpu: Implementation for CPU.
      accelerator: Implementation for GPU and TPU; must return the same shapes and dtypes.
      tpu: Implementation for TPU where it is another one.
    """
    return jax.lax.platform_dependent(
        *args, cpu=cpu, tpu=accelerator if tpu is None else tpu, default=accelerator
    )
