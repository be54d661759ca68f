"""What remains in the files of metrics after a restart."""

import json

from uniovseg_jax.train.metric_writer import MetricWriter


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_and_timings_go_to_files_of_their_own(tmp_path):
    writer = MetricWriter(tmp_path, 0, 0)
    writer.write_metrics(1, {"loss": 2.5})
    writer.write_timings(1, {"step_seconds": 0.5})
    writer.close()
    assert read(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.5}]
    assert read(tmp_path / "timings.jsonl") == [{"step": 1, "step_seconds": 0.5}]
    assert any((tmp_path / "tensorboard").iterdir())


def test_lines_after_the_restored_place_and_torn_lines_are_dropped(tmp_path):
    writer, sizes = MetricWriter(tmp_path, 0, 0), []
    for step in (1, 2, 3, 4):
        writer.write_metrics(step, {"loss": 0.0})
        writer.write_timings(step, {"step_seconds": 0.0})
        sizes.append(writer.size)
    writer.write_metrics(2, {"val_loss": 0.0})
    writer.close()
    for name in ("metrics.jsonl", "timings.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 2, "lo')
    MetricWriter(tmp_path, 2, sizes[1]).close()
    for name in ("metrics.jsonl", "timings.jsonl"):
        assert [line["step"] for line in read(tmp_path / name)] == [1, 2]
    # The size is that of the whole file, also after going on.
    writer = MetricWriter(tmp_path, 2, sizes[1])
    assert writer.size == sizes[1]
    writer.close()
