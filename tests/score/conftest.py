"""The script, imported once for a file of tests."""

import pytest


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("score")
