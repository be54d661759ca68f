"""Where results go unless they are told to."""

import pathlib

import pytest

from configs.eval import get_config
from uniovseg_jax.eval.from_config import default_output


@pytest.mark.parametrize(
    ("arg", "model", "folder"),
    [
        ("ade20k_150", "runs/pooled/model", "ade20k_150-fcclip-pooled"),
        ("ade20k_150", "runs/dense/model/", "ade20k_150-fcclip-dense"),
        ("ishape/wire,protocol=released", "weights/large", "ishape-wire-released-large"),
        ("cityscapes", "model", "cityscapes-fcclip-here"),
        ("cityscapes", ".", "cityscapes-fcclip-here"),
    ],
)
def test_every_model_has_a_folder_of_its_own(tmp_path, monkeypatch, arg, model, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert default_output(get_config(arg), model) == pathlib.Path("runs/eval") / folder
