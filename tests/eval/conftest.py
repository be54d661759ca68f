"""A small model on disk, and the first of the virtual devices alone: each one compiles anew."""

import jax
import made_model
import pytest


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory):
    return made_model.save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
