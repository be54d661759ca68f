"""scripts/measure_alignment.py by its command line, in a tiny world."""

import re

import pytest
from programs import ROOT, run_program


def run(config, *arguments):
    config = f"--config={ROOT / 'configs' / 'tinyscenes.py'}:{config}"
    return run_program("scripts/measure_alignment.py", *arguments, config, timeout=280)


@pytest.mark.slow
def test_both_ways_are_timed():
    result = run("stage2,tiny", "--images=8", "--batch=2", "--steps=1")
    assert result.returncode == 0, result.stderr
    number = r"([\d.]+)"
    found = re.fullmatch(
        rf"online: {number} images per second; scipy takes {number} % of that\n"
        rf"stored: {number} images per second \({number} trained pairs an image\), "
        rf"{number} times as many\n",
        result.stdout,
    )
    assert found, result.stdout
    online, share, stored, pairs, times = map(float, found.groups())
    assert 0 < online < stored and 0 <= share < 100 and pairs > 0 and times > 1


def test_another_phase_is_refused_with_one_sentence():
    result = run("clip,tiny")
    assert result.returncode == 1
    assert result.stderr.strip() == "error: --config is of phase clip; expected stage2."
