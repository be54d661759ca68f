"""Two processes, each with its share of every batch, train as one does."""

import json
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from programs import environment

_WORKER = pathlib.Path(__file__).with_name("distributed_worker.py")


def start_together(config, workdir, num_processes, num_devices):
    """Starts that many processes of that many virtual devices, which train together."""
    path = workdir.with_suffix(".json")
    path.write_text(config.to_json_best_effort())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(_WORKER), str(path), str(workdir), str(port), str(num_processes)]
    return [
        subprocess.Popen(
            [*command, str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(num_devices),
        )
        for number in range(num_processes)
    ]


def train_together(config, workdir, num_processes, num_devices):
    """Trains to the end; returns the result, which all processes share."""
    processes = start_together(config, workdir, num_processes, num_devices)
    outputs = []
    try:
        outputs = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    results = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert all(result == results[0] for result in results)
    return results[0]


def losses_of(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row], [
        row["val_loss"] for row in rows if "val_loss" in row
    ]


@pytest.fixture
def config(make_config):
    return make_config(
        "stage1",
        model__decoder_layers=1,  # Compiling takes most of the time here.
        batch_size=8,
        total_steps=10,
        num_devices=0,
        checkpoint__every=5,
        evals__every=5,
        checkpoint__keep=5,
    )


@pytest.mark.timeout(900)
def test_two_processes_give_the_losses_of_one_and_go_on_from_each_other(config, tmp_path):
    train_together(config, tmp_path / "one", 1, 1)
    with config.unlocked():
        config.fsdp = 2
    final = train_together(config, tmp_path / "two", 2, 2)
    expected, found = losses_of(tmp_path / "one"), losses_of(tmp_path / "two")
    assert len(found[0]) == 10 and len(found[1]) == 2
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert final == json.loads((tmp_path / "two" / "final.json").read_text())
    # What two processes saved, one goes on with: the stream does not depend on their number. As in
    # the first run, whose program is compiled.
    (tmp_path / "two" / "final.json").unlink()
    notes = json.loads((tmp_path / "two/checkpoints/5/notes/metadata").read_text())
    assert json.loads(notes["text"])["data"]["next_index"] >= 5
    (tmp_path / "two" / "checkpoints/10").rename(tmp_path / "set_aside")
    with config.unlocked():
        config.fsdp = 1
    train_together(config, tmp_path / "two", 1, 1)
    np.testing.assert_allclose(losses_of(tmp_path / "two")[0], expected[0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_when_one_process_dies_the_other_ends_soon_and_both_go_on_later(config, tmp_path):
    final = train_together(config, tmp_path / "undisturbed", 2, 1)
    for victim in (0, 1):  # The first one coordinates.
        workdir = tmp_path / f"run{victim}"
        processes = start_together(config, workdir, 2, 1)
        try:
            deadline = time.monotonic() + 400
            while time.monotonic() < deadline:
                metrics = workdir / "metrics.jsonl"
                if metrics.exists() and '"step": 7,' in metrics.read_text():
                    break
                time.sleep(0.05)
            processes[victim].kill()
            start = time.monotonic()
            assert processes[1 - victim].wait(timeout=60) != 0
            assert time.monotonic() - start < 15
        finally:
            for process in processes:
                process.kill()
        assert train_together(config, workdir, 2, 1) == final
        assert losses_of(workdir) == losses_of(tmp_path / "undisturbed")
