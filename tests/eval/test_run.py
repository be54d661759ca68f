"""Images on devices and threads, left and taken up again, with a scorer that only counts."""

import collections
import threading
import time

import jax
import pytest

from uniovseg_jax.eval.image_log import ImageLog, read_image_log
from uniovseg_jax.eval.run import ordered, score_images

IDS = [f"image{number}" for number in range(30)]


class Scorer:
    """Notes who scored what; an image is worth its length times its number."""

    def __init__(self, fails_at=(), seconds=0.0):
        self.seconds = seconds
        self.scored, self.placed, self.fails_at = collections.Counter(), [], fails_at
        self.shown, self.busy, self.lock = [], set(), threading.Lock()

    def on_device(self, device):
        self.placed.append(device)
        return (device, len(self.placed))

    def score(self, model, image_id):
        with self.lock:
            assert model not in self.busy, "a model was in two threads at a time"
            self.busy.add(model)
        time.sleep(self.seconds)
        with self.lock:
            self.busy.remove(model)
            if image_id in self.fails_at:
                raise ValueError(f"{image_id} is damaged.")
            self.scored[image_id] += 1
        return {"counters": 0.1 * int(image_id[5:])}

    def total(self, results):
        return {"sum": sum(result["counters"] for result in results)}

    def headline(self, results):
        self.shown.append(len(results))
        return f"sum {self.total(results)['sum']:.1f}"


def run(folder, scorer, **options):
    with ImageLog(folder, {"a": 1}) as log:
        score_images(scorer, IDS, log, **{"progress": False, **options})
    return read_image_log(folder)


def test_every_image_is_scored_once_on_all_devices(tmp_path):
    scorer = Scorer()
    done = run(tmp_path, scorer, threads_per_device=2)
    assert scorer.scored == dict.fromkeys(IDS, 1) and set(done) == set(IDS)
    devices = jax.local_devices()
    assert len(devices) == 8
    assert collections.Counter(scorer.placed) == dict.fromkeys(devices, 2)


def test_no_more_models_are_made_than_there_are_images(tmp_path):
    with ImageLog(tmp_path, {}) as log:
        scorer = Scorer()
        score_images(scorer, IDS[:3], log, 2, False)
        assert len(scorer.placed) == 3
        score_images(scorer, IDS[:3], log, 2, False)
        assert len(scorer.placed) == 3 and max(scorer.scored.values()) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_the_sum_depends_neither_on_threads_nor_on_a_break(tmp_path, threads):
    scorer = Scorer()
    whole = scorer.total(ordered(run(tmp_path / "whole", scorer, threads_per_device=3), IDS))
    broken = Scorer(fails_at=IDS[17:19])
    with pytest.raises(ValueError, match=r"image1[78] is damaged\."):
        run(tmp_path / "broken", broken, threads_per_device=threads)
    left = read_image_log(tmp_path / "broken")
    with pytest.raises(ValueError, match=r"images are not scored, such as 'image.*run the same"):
        ordered(left, IDS)
    again = Scorer()
    done = run(tmp_path / "broken", again, threads_per_device=threads)
    assert not set(left) & set(again.scored) and set(left) | set(again.scored) == set(IDS)
    assert scorer.total(ordered(done, IDS)) == whole


def test_images_that_nobody_has_begun_are_not_begun_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    scorer = Scorer(fails_at=IDS[2:3], seconds=0.02)
    with pytest.raises(ValueError, match="image2 is damaged"):
        run(tmp_path, scorer, threads_per_device=1)
    # The thread may have taken the next ones before the failure was seen.
    assert len(scorer.scored) < len(IDS) - 1
    assert {"image0", "image1"} <= set(read_image_log(tmp_path))


def test_images_are_divided_among_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    scorers = [Scorer() for _ in range(3)]
    for number, scorer in enumerate(scorers):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        with ImageLog(tmp_path, {}, number) as log:
            score_images(scorer, IDS, log, 1, False)
        assert len(scorer.scored) == 10
    assert sum((scorer.scored for scorer in scorers), collections.Counter()) == dict.fromkeys(
        IDS, 1
    )
    assert ordered(read_image_log(tmp_path), IDS)[7] == {"counters": pytest.approx(0.7)}


def test_the_bar_shows_the_running_score(tmp_path, capsys):
    scorer = Scorer()
    run(tmp_path, scorer, progress=True, title="set/a")
    shown = capsys.readouterr().err
    assert "set/a: 100%" in shown and "30/30" in shown and "sum 43.5" in shown
    assert scorer.shown == [20, 30]


def test_less_than_one_thread_is_refused(tmp_path):
    with pytest.raises(ValueError, match="threads_per_device is 0; expected 1 or more"):
        run(tmp_path, Scorer(), threads_per_device=0)
