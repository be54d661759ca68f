"""The three phases by their names."""

import pathlib

import ml_collections
from jax.sharding import Mesh

from uniovseg_jax.train.phase import Phase
from uniovseg_jax.train.phase_clip import make_clip
from uniovseg_jax.train.phase_stage1 import make_stage1
from uniovseg_jax.train.phase_stage2 import make_stage2


def make_phase(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Phase:
    """Returns the phase that `config.phase` names; renders its data when they are not there.

    Args:
      config: Of the run.
      workdir: Where data are rendered, unless the configuration names a folder.
      mesh: Where the phase evaluates.

    Raises:
      ValueError: If there is no such phase.
    """
    makers = {"clip": make_clip, "stage1": make_stage1, "stage2": make_stage2}
    if config.phase not in makers:
        raise ValueError(f"phase is {config.phase!r}; expected one of {', '.join(makers)}.")
    return makers[config.phase](config, workdir, mesh)
