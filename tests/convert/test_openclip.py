"""From a checkpoint that OpenCLIP itself made to a verified model directory, and back."""

import json
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import script_call
from PIL import Image
from safetensors.numpy import load_file

from convert import openclip
from convert.openclip_models import config_from_json, has_conv_mlp
from convert.verification import Verification
from uniovseg_jax.weights.store import load_pretrained

JSON = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "convnext_atto",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def folder(open_clip, tmp_path_factory):
    """A folder with OpenCLIP's JSON of a small timm ConvNeXt and a random checkpoint of it."""
    folder = tmp_path_factory.mktemp("openclip")
    (folder / "atto.json").write_text(json.dumps(JSON))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    code, out, err = script_call.run(
        "random_openclip",
        f"--model_config={folder / 'atto.json'}",
        f"--output={folder / 'random.safetensors'}",
    )
    assert code == 0, out + err
    return folder


@pytest.fixture(scope="module")
def converted(folder):
    """The model directory that the script makes of it, verified."""
    code, out, err = script_call.run(
        "convert_openclip",
        f"--checkpoint={folder / 'random.safetensors'}",
        f"--model_config={folder / 'atto.json'}",
        f"--output={folder / 'model'}",
        "--verify",
        "--sizes=64,96",
        f"--image={folder / 'photo.png'}",
    )
    assert code == 0, out + err
    assert "Parity passed" in out and "GiB" in out
    return folder / "model"


def test_every_block_and_both_embeddings_are_compared(converted):
    document = json.loads((converted / "parity.json").read_text())
    assert document["passed"] is True
    places = set(document["max_abs_error"])
    depths = enumerate((2, 2, 6, 2))
    blocks = {f"visual/stage_{s}/block_{b}" for s, depth in depths for b in range(depth)}
    downsamples = {f"visual/stage_{s}/downsample" for s in (1, 2, 3)}
    assert places == {
        "visual/stem", *blocks, *downsamples, "text/layer_0", "text/layer_1", "image", "text",
    }  # fmt: skip
    assert document["max_abs_error"]["image"] < 1e-6
    assert document["max_abs_error"]["text"] < 1e-6
    # Half precision differs, so the two runs are not the same one twice.
    assert document["errors"]["image"]["bfloat16"]["largest"] > 1e-4
    assert "open_clip" in document["reference"] and "photo.png at 64, 96" in document["inputs"][0]
    assert "**Passed.**" in (converted / "parity.md").read_text()


def test_the_directory_holds_what_the_file_says(converted, folder):
    found = load_pretrained(converted)
    assert found.parts == ("clip",) and found.config.clip == config_from_json(folder / "atto.json")
    assert found.tokenizer is not None
    assert found.tokenizer(["a photo of a cat."])[0, :3].tolist() == [49406, 320, 1125]
    assert found.metadata["source"] == "random.safetensors"


def test_the_way_back_is_byte_equal_and_loads_into_openclip(converted, folder):
    from convert.openclip_torch import build_openclip

    path = folder / "back.safetensors"
    code, out, err = script_call.run(
        "convert_openclip", "--to_torch", f"--model={converted}", f"--output={path}"
    )
    assert code == 0, out + err
    # Header aside, which may list tensors in another order.
    before, after = load_file(folder / "random.safetensors"), load_file(path)
    assert sorted(before) == sorted(after)
    for name, tensor in before.items():
        assert tensor.shape == after[name].shape and tensor.tobytes() == after[name].tobytes(), name
    import torch

    config = config_from_json(folder / "atto.json")
    assert has_conv_mlp(config) and after["visual.trunk.stages.0.blocks.0.mlp.fc1.weight"].ndim == 4
    state = {name: torch.from_numpy(tensor) for name, tensor in after.items()}
    build_openclip(config).load_state_dict(state)  # Strict.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sources_become_their_float32_values(folder, tmp_path, dtype):
    path = tmp_path / "half.pt"
    flags = f"--model_config={folder / 'atto.json'}", f"--dtype={dtype}", f"--output={path}"
    code, out, err = script_call.run("random_openclip", *flags)
    assert code == 0, out + err
    config = config_from_json(folder / "atto.json")
    tokenizer = openclip.clip_tokenizer(None, config)
    assert openclip.convert_openclip(path, config, tokenizer, tmp_path / "model") is None
    visual = load_pretrained(tmp_path / "model").variables["params"]["clip"]["visual"]
    kernel = visual["stem"]["conv"]["kernel"]
    full = load_file(folder / "random.safetensors")["visual.trunk.stem.0.weight"]
    expected = jnp.asarray(full, dtype).astype(jnp.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    assert not np.array_equal(kernel, full.transpose(2, 3, 1, 0))


def test_other_weights_do_not_pass(folder, converted):
    from convert.checkpoints import read_checkpoint
    from convert.verify_openclip import verify_openclip

    model = load_pretrained(converted)
    assert model.tokenizer is not None
    clip = dict(model.variables["params"]["clip"])
    clip["text"] = jax.tree.map(lambda x: x * 1.01, clip["text"])
    state = read_checkpoint(folder / "random.safetensors")
    parity = verify_openclip(
        model.config.clip,
        {"params": {"clip": clip}},
        model.tokenizer,
        state,
        Verification("other weights", (64,)),
    )
    assert not parity.passed
    assert [check.name for check in parity.checks if not check.passed] == [
        "text embedding, largest error"
    ]
    assert "Parity failed: text embedding" in parity.summary()


def test_another_size_is_refused_before_anything_is_written(folder, tmp_path):
    code, _, err = script_call.run(
        "convert_openclip",
        f"--checkpoint={folder / 'random.safetensors'}",
        "--model_name=convnext_tiny",
        f"--output={tmp_path / 'model'}",
    )
    assert code == 2 and "Traceback" not in err
    assert "another model than the one that was named: depths (2, 2, 6, 2), expected (3, 3" in err
    assert not (tmp_path / "model").exists()


@pytest.fixture
def hub(monkeypatch):
    """A hub in memory: repository and file name -> local file."""
    files: dict[tuple[str, str], pathlib.Path] = {}

    def hf_hub_download(repository, name):
        if (repository, name) not in files:
            raise RuntimeError("404")
        return str(files[repository, name])

    module = types.ModuleType("huggingface_hub")
    vars(module)["hf_hub_download"] = hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return files


def test_a_hub_repository_gives_weights_and_sizes(hub, tmp_path):
    weights = tmp_path / "weights"
    hub["someone/clip", "open_clip_pytorch_model.bin"] = weights
    hub["someone/clip", "open_clip_config.json"] = tmp_path / "config"
    assert openclip.download("someone/clip") == (str(weights), str(tmp_path / "config"))


def test_a_hub_without_the_files_is_one_sentence(hub):
    with pytest.raises(ValueError, match=r"gave no file of someone/else .*RuntimeError"):
        openclip.download("someone/else")
    assert not hub
