"""Settings of a folder against those of who comes back to it."""

from uniovseg_jax.settings import as_json, first_difference


def test_tuples_become_lists():
    assert as_json({"a": (1, (2, None)), "b": {"c": 0.5}}) == {"a": [1, [2, None]], "b": {"c": 0.5}}


def test_equal_settings_do_not_differ():
    assert not first_difference({"a": {"b": [1]}}, {"a": {"b": [1]}})


def test_the_first_difference_has_its_path():
    old, new = {"b": {"c": 1, "d": 2}, "e": 5}, {"b": {"c": 1, "d": 3}, "e": 6}
    assert first_difference(old, new) == "b.d was '2' and is '3'"
    assert first_difference({"a": 1}, {}) == "a was '1' and is 'None'"
    assert first_difference({"a": {"b": 1}}, {"a": 7}) == "a was \"{'b': 1}\" and is '7'"
