"""scripts/measure_evaluation.py: a mistake is one sentence."""

import pytest


def test_a_mistake_ends_with_one_sentence_and_2(load_script, monkeypatch, capsys):
    script = load_script("measure_evaluation")

    def fail():
        raise ValueError("There is no preset 'wish'.")

    monkeypatch.setattr(script, "measure", fail)
    with pytest.raises(SystemExit) as caught:
        script.main([])
    assert (caught.value.code, capsys.readouterr().err) == (2, "There is no preset 'wish'.\n")
