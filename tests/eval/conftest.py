"""A small model on disk, the first of the virtual devices alone, and a run without power."""

import contextlib

import jax
import made_model
import pytest

from uniovseg_jax.eval.named import NamedScorer


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory):
    return made_model.save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def one_device(monkeypatch):
    """Each device compiles anew."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])


@pytest.fixture
def stopped_after_one_image():
    """`with stopped_after_one_image():` lets an evaluation within fail at its second image."""

    @contextlib.contextmanager
    def stopped():
        real, begun = NamedScorer.score, []

        def stop(self, model, image_id):
            begun.append(image_id)
            if len(begun) == 2:
                raise OSError("no power")
            return real(self, model, image_id)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="no power"):
            patch.setattr(NamedScorer, "score", stop)
            yield

    return stopped
