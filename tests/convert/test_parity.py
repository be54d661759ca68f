"""Measured differences, bounds and the written report."""

import json

import numpy as np
import pytest

from convert.parity import Check, Error, Parity, measure, merge_worst


def test_differences_are_measured():
    reference = np.zeros(2000)
    found = reference.copy()
    found[:3] = 3.0, 2.0, 1.0
    error = measure(found, reference - 0.0)
    assert error.largest == 3 and error.mean == pytest.approx(6 / 2000)
    assert error.p999 == 1.0  # 1,998 of 2,000 values, which is 99.9 %, are not larger.
    assert measure(np.float32([2]), np.float32([-4])) == Error(6, 6, 6, 4)
    with pytest.raises(ValueError, match=r"Shapes \(2,\) and \(3,\)"):
        measure(np.zeros(2), np.zeros(3))


def test_the_worst_of_several_inputs_counts_field_by_field():
    assert merge_worst([Error(1, 5, 2, 7), Error(3, 4, 6, 1)]) == Error(3, 5, 6, 7)


def test_what_is_not_finite_is_never_close():
    wrong = np.array([1.0, np.nan])
    for found, reference in ((wrong, np.zeros(2)), (np.zeros(2), wrong)):
        error = measure(found, reference)
        assert error.largest == error.p999 == error.mean == np.inf
    # Wherever it stands among the inputs.
    for errors in ([Error(1, 1, 1, 1), error], [error, Error(1, 1, 1, 1)]):
        assert merge_worst(errors).largest == np.inf


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (Check("x", 0.5, 1.0), True),
        (Check("x", 1.5, 1.0), False),
        (Check("x", 1.5, 1.0, at_least=True), True),
        (Check("x", 0.5, 1.0, at_least=True), False),
        (Check("x", float("nan"), 1.0), False),
        (Check("x", float("nan"), 1.0, at_least=True), False),
    ],
)
def test_bounds(check, passed):
    assert check.passed is passed


def make_parity(*checks):
    errors = {"image": {"float32": Error(1e-6, 1e-7, 5e-7, 1.0), "bfloat16": Error(1, 1, 1, 1.0)}}
    return Parity("a model", "a reference", ["an input"], errors, checks, {"tensors": 3})


def test_the_report_says_what_passed(tmp_path):
    parity = make_parity(Check("embedding", 1e-6, 1e-4))
    parity.write(tmp_path)
    document = json.loads((tmp_path / "parity.json").read_text())
    assert document["passed"] is True and document["max_abs_error"] == {"image": 1e-6}
    assert document["errors"]["image"]["bfloat16"]["largest"] == 1
    text = (tmp_path / "parity.md").read_text()
    assert "**Passed.**" in text and "| image | float32 | 1.00e-06 |" in text
    assert parity.summary() == "Parity passed: see parity.md."


def test_one_bound_outside_fails_it(tmp_path):
    parity = make_parity(Check("embedding", 1e-6, 1e-4), Check("IoU", 0.9, 0.999, at_least=True))
    parity.write(tmp_path)
    assert not json.loads((tmp_path / "parity.json").read_text())["passed"]
    assert "FAILED" in (tmp_path / "parity.md").read_text()
    assert parity.summary() == "Parity failed: IoU is 0.9, limit 0.999."
    assert not make_parity().passed  # Nothing was checked.
