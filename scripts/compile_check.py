"""Compiles a training step for TPUs without one, and tells whether it fits.

python scripts/compile_check.py --config=configs/full.py:stage1 --topology=v5e:2x4

Needs libtpu (`pip install -e '.[tpu]'`), no TPU, no weights and no data. Prints memory per device
against the chip's, the compiler's FLOPs beside those of the formulas, bytes, and the collectives.
Nothing is run, so nothing is said about time. Exits with 1 where the step does not fit.
"""

import os
import sys
import time

# Read when jax is imported: there is no TPU to look for.
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling claims no chip, so several processes may do it at once.
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"

from absl import app, flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from uniovseg_jax.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Configuration file, a colon, and the stage with its options."
)
_TOPOLOGY = flags.DEFINE_string("topology", None, "Chip and arrangement, such as v5e:2x4.")
flags.mark_flags_as_required(["config", "topology"])


def main(_: list[str]) -> None:
    """Compiles and prints."""
    from uniovseg_jax.train import compile_report, sharding
    from uniovseg_jax.train.abstract_step import compile_for, needed_flops
    from uniovseg_jax.train.topology import topology_devices

    config, topology = _CONFIG.value, str(_TOPOLOGY.value)
    try:
        memory = compile_report.chip_memory(topology)
        mesh = sharding.make_mesh(0, config.fsdp, topology_devices(topology))
        per_device = config.batch_size // mesh.size
        print(
            f"{config.phase} for {topology}: {mesh.size} devices with {per_device} examples each. "
            "Compiling; the large model takes several minutes.",
            flush=True,
        )
        start = time.monotonic()
        report = compile_report.make_report(compile_for(config, mesh))
    except (ValueError, MemoryError) as error:
        sys.exit(f"error: {error}")
    needed = needed_flops(config) / mesh.size
    print(compile_report.format_report(report, memory, needed))
    print(f"Compiled in {time.monotonic() - start:.0f} s.")
    if report.memory > memory:
        sys.exit(
            f"error: the step needs {report.memory / 1e9:.2f} GB; a chip has {memory / 1e9} GB."
        )


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
