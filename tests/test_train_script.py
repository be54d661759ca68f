"""scripts/train.py and configs/tinyscenes.py: what they accept and what they say."""

import importlib.util
import json

import pytest
from programs import ROOT as _ROOT
from programs import run_program

from uniovseg_jax.models.presets import config_from_dict, get_preset


def run(*arguments):
    """Runs the script; returns exit status and everything that it printed."""
    result = run_program("scripts/train.py", *arguments, cwd=_ROOT)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def get_config():
    """`get_config` of configs/tinyscenes.py."""
    spec = importlib.util.spec_from_file_location("ts", _ROOT / "configs" / "tinyscenes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


@pytest.mark.parametrize("phase", ["clip", "stage1", "stage2"])
@pytest.mark.parametrize("options", ["", ",tiny", ",tiny,seed=3,preset=test"])
def test_every_configuration_resolves(get_config, phase, options):
    config = get_config(phase + options)
    preset = "test" if "preset" in options else "nano"
    assert config.phase == phase
    assert config_from_dict(config.model.to_dict()) == get_preset(preset)
    assert config.seed == config.data.seed == (3 if "seed" in options else 0)
    assert config.optimizer.warmup_steps < config.total_steps


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("stage3", "Unknown phase 'stage3'; expected one of clip, stage1, stage2"),
        ("clip,tny", "Unknown option 'tny'; expected tiny, seed=<number> or preset=<name>"),
        ("clip,seed=x", "Unknown option 'seed=x'"),
        ("clip,preset=huge", "Unknown preset 'huge'; expected one of released, paper, nano, test"),
    ],
)
def test_wrong_options_say_what_is_expected(get_config, argument, message):
    with pytest.raises(ValueError, match=message):
        get_config(argument)


def test_help_names_the_flags():
    _, output = run("--help")
    assert "--workdir" in output and "--config" in output


def test_a_wrong_key_is_named(tmp_path):
    status, output = run(
        "--config=configs/tinyscenes.py:clip,tiny", f"--workdir={tmp_path}/w", "--config.optimizr=1"
    )
    assert status != 0
    assert "optimizr" in output
    assert not (tmp_path / "w").exists()


def test_a_missing_model_directory_is_one_sentence(tmp_path):
    status, output = run(
        "--config=configs/tinyscenes.py:stage1,tiny",
        f"--workdir={tmp_path}/w",
        "--config.init=no/such/model",
    )
    assert status == 1
    assert output.strip().splitlines()[-1].startswith("error: no/such/model is no model directory")
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["clip", "stage1", "stage2"])
def test_the_tiny_run_of_a_phase_ends_with_a_model(tmp_path, phase):
    status, output = run(f"--config=configs/tinyscenes.py:{phase},tiny", f"--workdir={tmp_path}")
    assert status == 0, output
    final = json.loads((tmp_path / "final.json").read_text())
    assert final["metrics"] and len(final["params_sha256"]) == 64
    assert (tmp_path / "model" / "config.json").is_file()
    assert "Done after" in output
