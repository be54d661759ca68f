"""The whole way through the TPU compiler, at the smallest size."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: no program can be compiled for TPUs",
)


def _check(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "scripts/compile_check.py", *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@needs_libtpu
def test_stage_2_compiles_for_four_chips():
    result = _check("--config=configs/full.py:stage2,preset=test", "--topology=v5e:2x2")
    assert result.returncode == 0, result.stderr
    assert "stage2 for v5e:2x2: 4 devices with 14 examples each" in result.stdout
    assert "all-reduce" in result.stdout


@pytest.mark.slow
@needs_libtpu
def test_the_small_model_compiles_for_four_chips_and_sums_gradients():
    result = _check(
        "--config=configs/full.py:stage1,preset=test",
        "--topology=v5e:2x2",
        "--config.batch_size=8",
        "--config.data.max_instances=8",
        "--config.data.num_boxes=4",
        "--config.data.points_per_side=3",
        "--config.loss.num_points=64",
    )
    assert result.returncode == 0, result.stderr
    assert "4 devices with 2 examples each" in result.stdout
    assert "all-reduce" in result.stdout
    # Images stay where they are: only gradients and sums travel.
    assert "all-gather" not in result.stdout and "all-to-all" not in result.stdout


@needs_libtpu
def test_unknown_topologies_and_odd_batches_are_one_sentence():
    result = _check("--config=configs/full.py:stage1,preset=test", "--topology=v5e:7x9")
    assert result.returncode == 1
    assert "topology is 'v5e:7x9'; expected one that libtpu knows" in result.stderr
    result = _check(
        "--config=configs/full.py:stage1,preset=test", "--topology=v5e:2x2", "--config.batch_size=6"
    )
    assert result.returncode == 1
    assert "error: batch_size is 6; expected a positive multiple of the 4 devices." in result.stderr


def test_missing_libtpu_is_one_sentence(monkeypatch):
    from uniovseg_jax.train import topology

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="libtpu is not installed; expected it beside JAX"):
        topology.topology_devices("v5e:2x2")
