"""Checkpoint files: read safely, refused by name, written whole."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from convert.checkpoints import read_checkpoint, write_checkpoint

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5])}


def check_state(found):
    assert sorted(found) == sorted(STATE)
    for name, tensor in STATE.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_safetensors_are_read_as_float32(tmp_path, dtype):
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.astype(dtype) for name, tensor in STATE.items()}, str(path))
    check_state(read_checkpoint(path))


def test_bfloat16_is_read(tmp_path):
    import ml_dtypes

    path = tmp_path / "model.safetensors"
    save_file(
        {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in STATE.items()}, str(path)
    )
    check_state(read_checkpoint(path))


def test_integers_are_left_out_and_the_wrapper_comes_off(tmp_path):
    path = tmp_path / "model.safetensors"
    wrapped = {f"module.{name}": tensor for name, tensor in STATE.items()}
    save_file(wrapped | {"module.steps": np.int64([3])}, str(path))
    check_state(read_checkpoint(path))


@pytest.mark.parametrize("nest", [None, "model", "state_dict"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_as_float32(tmp_path, nest, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    tensors = {name: torch.from_numpy(tensor.copy()) for name, tensor in STATE.items()}
    tensors["b"] = tensors["b"].to(torch.bfloat16)
    content = tensors if nest is None else {nest: tensors, "iteration": 7}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    check_state(read_checkpoint(path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_is_written_is_read_again_and_nothing_is_overwritten(tmp_path, suffix):
    if suffix == ".pt":
        pytest.importorskip("torch")
    path = tmp_path / "new" / f"model{suffix}"
    write_checkpoint(path, STATE)
    check_state(read_checkpoint(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="exists; it is left as it is"):
        write_checkpoint(path, {})
    check_state(read_checkpoint(path))


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["bare", "legacy", "zip"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, form):
    torch = pytest.importorskip("torch")
    path, canary = tmp_path / "evil.pth", tmp_path / "canary"
    if form == "bare":
        path.write_bytes(pickle.dumps({"model": Canary(canary)}))
    else:
        torch.save({"a": Canary(canary)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match="evil.pth cannot be loaded safely, and nothing of it was"):
        read_checkpoint(path)
    assert not canary.exists()


def _safetensors(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def _entry(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HOSTILE = {
    "empty": b"",
    "short": b"\x08\x00",
    "huge header": struct.pack("<Q", 100_000_001) + b"{" * 64,
    "endless header": struct.pack("<Q", 2**63 - 1) + b"{}",
    "no json": _safetensors(b"this is no json"),
    "overlap": _safetensors({"a": _entry(0, 8), "b": _entry(4, 12)}, bytes(12)),
    "hole": _safetensors({"a": _entry(0, 8), "b": _entry(12, 20)}, bytes(20)),
    "behind the end": _safetensors({"a": _entry(0, 800, (200,))}, bytes(8)),
    "wrong size": _safetensors({"a": _entry(0, 8, (3,))}, bytes(8)),
    "negative": _safetensors({"a": _entry(0, 8, (-2,))}, bytes(8)),
    "overflow": _safetensors({"a": _entry(0, 8, (2**62, 2**62))}, bytes(8)),
    "unknown type": _safetensors({"a": _entry(0, 8, (2,), "F99")}, bytes(8)),
    "more than it says": _safetensors({"a": _entry(0, 8)}, bytes(64)),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_safetensors_are_refused_by_name(tmp_path, name):
    path = tmp_path / "evil.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="evil.safetensors is no readable safetensors file"):
        read_checkpoint(path)


def test_what_is_not_finite_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(STATE | {"bad": np.float32([1, np.nan])}, str(path))
    with pytest.raises(ValueError, match="1 of 3 tensors hold values.*not finite.*bad"):
        read_checkpoint(path)


def test_a_missing_file_and_one_without_tensors_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.pt: no such file"):
        read_checkpoint(tmp_path / "nothing.pt")
    torch = pytest.importorskip("torch")
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list; expected a state dict"):
        read_checkpoint(path)
    torch.save({"step": 3}, path)
    with pytest.raises(ValueError, match="holds no floating-point tensor"):
        read_checkpoint(path)


def test_an_old_torch_is_refused(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    write_checkpoint(path, STATE)
    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(ImportError, match=r"torch 2.9.1 is known to run code.*2.10 or newer"):
        read_checkpoint(path)
