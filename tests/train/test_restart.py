"""Runs that are killed, or told to end, finish as if nothing had happened."""

import json
import pathlib
import random

import pytest
from programs import ROOT, run_program

# Each test is many processes.
pytestmark = pytest.mark.timeout(1200)

_DRIVER = pathlib.Path(__file__).with_name("restart_driver.py")


def drive(config, workdir, signal, *when):
    """Returns exit code, whether it was reached, and seconds, for each process."""
    path = workdir.with_suffix(".json")
    path.write_text(config.to_json_best_effort())
    result = run_program(_DRIVER, path, workdir, signal, *when, cwd=ROOT, timeout=900)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def outcome(workdir):
    """What has to be the same: the result, all metrics, the model, and the last checkpoint."""
    final = json.loads((workdir / "final.json").read_text())
    notes = workdir / "checkpoints" / str(final["step"]) / "notes" / "metadata"
    return {
        "final": final,
        "metrics": (workdir / "metrics.jsonl").read_bytes(),
        "model": (workdir / "model" / "params.safetensors").read_bytes(),
        # Digests of parameters, optimizer and random state, and the data position.
        "checkpoint": json.loads(json.loads(notes.read_text())["text"]),
    }


@pytest.fixture(scope="module")
def config(make_config):
    """Stage 1 of the smallest model: 24 steps, saved every fourth, evaluated every sixth."""
    return make_config(
        "stage1",
        model__decoder_layers=1,  # Compiling takes most of the time here.
        batch_size=4,
        total_steps=24,
        checkpoint__every=4,
        evals__every=6,
        log__pictures_every=8,
    )


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The outcome of a run that nobody ends, and its seconds with a warm compilation cache."""
    folder = tmp_path_factory.mktemp("undisturbed")
    drive(config, folder / "first", "SIGKILL")
    [[code, _, seconds]], _ = drive(config, folder / "run", "SIGKILL")
    assert code == 0
    assert outcome(folder / "first") == outcome(folder / "run")
    return outcome(folder / "run"), seconds


def check_kills(config, undisturbed, tmp_path, num_kills):
    expected, seconds = undisturbed
    rng, killed, number = random.Random(1), 0, 0
    while killed < num_kills:
        when = [f"{rng.uniform(0.05, 0.7) * seconds:.3f}" for _ in range(4)]
        workdir = tmp_path / f"run{number}"
        rows, _ = drive(config, workdir, "SIGKILL", *when)
        killed += sum(reached for _, reached, _ in rows)
        assert rows[-1][0] == 0
        assert all(code == -9 for code, reached, _ in rows if reached)
        found = outcome(workdir)
        for name, value in expected.items():
            assert found[name] == value, f"{name} differs after kills at {when}"
        number += 1


def test_killed_at_any_moment_a_run_ends_with_the_same_bytes(config, undisturbed, tmp_path):
    check_kills(config, undisturbed, tmp_path, 4)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_a_hundred_times_runs_end_with_the_same_bytes(config, undisturbed, tmp_path):
    check_kills(config, undisturbed, tmp_path, 100)


def test_told_to_end_in_any_phase_a_run_saves_and_goes_on_later(config, undisturbed, tmp_path):
    moments = ("start", "first data", "compile", "step", "evaluation", "save")
    rows, errors = drive(config, tmp_path / "run", "SIGTERM", *moments)
    for moment, (code, reached, seconds) in zip(moments, rows[:-1], strict=True):
        assert reached, moment
        # 0: nothing was to be saved; 3: saved. Both are an exit with 0 of scripts/train.py.
        assert code in (0, 3) and seconds < 30, (moment, code, seconds)
    assert "before there was anything new to save" in errors
    assert any(code == 3 for code, *_ in rows)
    found = outcome(tmp_path / "run")
    for name, value in undisturbed[0].items():
        assert found[name] == value, name
