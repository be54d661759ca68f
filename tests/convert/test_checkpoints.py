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
    with pytest.raises(ValueError, match="evil.pth cannot be loaded safely") as caught:
        read_checkpoint(path)
    assert not canary.exists()
    # The culprit is named, and torch's advice to load it all the same is not passed on.
    assert "nothing of it was run" in str(caught.value)
    assert form == "bare" or "it asks for posix.mkdir" in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_parameters_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({k: torch.nn.Parameter(torch.from_numpy(x.copy())) for k, x in STATE.items()}, path)
    check_state(read_checkpoint(path))


def test_safetensors_are_known_by_their_content(tmp_path):
    path = tmp_path / "open_clip_pytorch_model.bin"
    save_file(STATE, str(path))
    check_state(read_checkpoint(path))


def test_a_pointer_in_place_of_a_file_is_named(tmp_path):
    path = tmp_path / "model.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ValueError, match="model.bin is a pointer of Git LFS"):
        read_checkpoint(path)


def test_a_cut_file_is_damaged_and_not_unsafe(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="model.pth is damaged or no file of torch.save"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda torch: torch.zeros(2, 2).to_sparse(), "a is a tensor of torch.sparse_coo on cpu"),
        (lambda torch: torch.zeros(2, device="meta"), "a is a tensor of torch.strided on meta"),
        (lambda torch: torch.zeros(1).expand(10**13), "a claims 10000000000000 numbers"),
        (lambda torch: torch.zeros(2, dtype=torch.complex64), "a is torch.complex64"),
        (lambda torch: torch.zeros(2).to(torch.float8_e4m3fn), "a is torch.float8_e4m3fn"),
    ],
)
def test_odd_tensors_are_refused_by_name(tmp_path, make, message):
    torch = pytest.importorskip("torch")
    path = tmp_path / "odd.pth"
    torch.save({"a": make(torch)}, path)
    with pytest.raises(ValueError, match=f"odd.pth: {message}"):
        read_checkpoint(path)


def test_names_that_are_no_names_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "odd.pth"
    torch.save({3: torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="expected a state dict"):
        read_checkpoint(path)


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
