"""The log of an evaluation: what a killed process leaves, and who may go on with it."""

import json

import pytest

from uniovseg_jax.eval.image_log import ImageLog, read_image_log

SETTINGS = {"model": "abc", "config": {"merge": {"fill": True}, "scales": (1.0, 2.0)}}


def test_results_are_there_again_for_the_same_settings(tmp_path):
    with ImageLog(tmp_path / "new", SETTINGS) as log:
        log.add("ä\n/1", {"counters": [1, 2.5]})
        assert log.done == {"ä\n/1": {"counters": [1, 2.5]}}
    with ImageLog(tmp_path / "new", SETTINGS) as log:
        assert log.done == {"ä\n/1": {"counters": [1, 2.5]}}


def test_an_unfinished_line_is_dropped_and_what_follows_is_whole(tmp_path):
    with ImageLog(tmp_path, SETTINGS) as log:
        log.add("a", {"counters": 1})
        log.add("b", {"counters": 2})
    path = tmp_path / "images-00000.jsonl"
    whole = path.read_bytes()
    for cut in (1, 5, len(whole.splitlines()[1])):
        path.write_bytes(whole[:-cut])
        # Also as another process sees it, which leaves the file alone.
        assert set(read_image_log(tmp_path)) == {"a"}
        with ImageLog(tmp_path, SETTINGS) as log:
            assert set(log.done) == {"a"}
            log.add("b", {"counters": 2})
        assert path.read_bytes() == whole


def test_other_settings_are_named(tmp_path):
    with ImageLog(tmp_path, SETTINGS):
        pass
    changed = json.loads(json.dumps(SETTINGS))
    changed["config"]["merge"]["fill"] = False
    for process in (0, 1):
        with pytest.raises(ValueError, match=r"config\.merge\.fill was 'True' and is 'False'"):
            ImageLog(tmp_path, changed, process)
    with pytest.raises(ValueError, match=r"other settings \(tasks was 'None' and is"):
        ImageLog(tmp_path, {**SETTINGS, "tasks": ["semantic"]})


def test_every_process_has_a_file_of_its_own_and_sees_all_at_the_start(tmp_path):
    with ImageLog(tmp_path, SETTINGS) as first, ImageLog(tmp_path, SETTINGS, 1) as second:
        first.add("a", {"n": 1})
        second.add("b", {"n": 2})
        assert set(first.done) == {"a"} and set(second.done) == {"b"}
    assert read_image_log(tmp_path) == {"a": {"n": 1}, "b": {"n": 2}}
    with ImageLog(tmp_path, SETTINGS) as log:
        assert set(log.done) == {"a", "b"}


@pytest.mark.parametrize("line", ["\0\0\0", "[]", '{"counters": 1}', ""])
def test_a_damaged_line_is_one_sentence(tmp_path, line):
    (tmp_path / "images-00003.jsonl").write_text('{"id": "a"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"images-00003\.jsonl holds a line that is no result"):
        read_image_log(tmp_path)


def test_damaged_settings_are_one_sentence_with_the_file(tmp_path):
    (tmp_path / "run.json").write_text('{"benchmark": "vo')
    with pytest.raises(ValueError, match=r"run\.json is damaged, it holds no JSON") as caught:
        ImageLog(tmp_path, {"benchmark": "voc"})
    assert "\n" not in str(caught.value)
