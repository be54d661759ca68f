import dataclasses
import json
import os

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.weights import store

CONFIG = get_preset("test")
PARTS = ("clip", "masks", "adapter")


@pytest.fixture(scope="module")
def variables():
    return init_variables(CONFIG, jax.random.key(0), PARTS)


@pytest.fixture(scope="module")
def text_tokenizer():
    clip = CONFIG.clip
    return train_tokenizer(["a red ball on the grass"], clip.vocab_size, clip.context_length)


@pytest.fixture
def model_dir(tmp_path, variables, text_tokenizer):
    store.save_pretrained(tmp_path / "model", CONFIG, variables, text_tokenizer, PARTS)
    return tmp_path / "model"


def _edit_tensors(model_dir, edit):
    tensors = load_file(model_dir / store.PARAMS_FILE)
    edit(tensors)
    save_file(tensors, model_dir / store.PARAMS_FILE)


def _edit_config(model_dir, **changes):
    path = model_dir / store.CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_read_back(tmp_path, variables, text_tokenizer):
    metadata = {"seed": 3}
    store.save_pretrained(
        tmp_path / "a" / "model", CONFIG, variables, text_tokenizer, PARTS, metadata=metadata
    )
    loaded = store.load_pretrained(tmp_path / "a" / "model")
    assert loaded.config == CONFIG and loaded.parts == PARTS and loaded.metadata == metadata
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(dict(variables))
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(variables))
    assert loaded.tokenizer is not None
    np.testing.assert_array_equal(loaded.tokenizer(["red ball"]), text_tokenizer(["red ball"]))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["model"]


def test_float16_halves_the_file_and_comes_back_as_float32(tmp_path, variables, text_tokenizer):
    for dtype in ("float32", "float16"):
        store.save_pretrained(
            tmp_path / dtype, CONFIG, variables, text_tokenizer, PARTS, dtype=dtype
        )
    sizes = [(tmp_path / d / store.PARAMS_FILE).stat().st_size for d in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = store.load_pretrained(tmp_path / "float16").variables
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded)} == {"float32"}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-11, atol=1e-7),
        loaded["params"],
        variables["params"],
    )
    jax.tree.map(np.testing.assert_array_equal, loaded["fixed"], dict(variables["fixed"]))


def test_a_part_alone_needs_no_tokenizer(tmp_path, variables):
    masks = init_variables(CONFIG, jax.random.key(0), ("masks",))
    store.save_pretrained(tmp_path / "masks", CONFIG, masks, None, ("masks",))
    loaded = store.load_pretrained(tmp_path / "masks")
    assert loaded.parts == ("masks",) and loaded.tokenizer is None
    assert not (tmp_path / "masks" / store.TOKENIZER_FILE).exists()
    with pytest.raises(ValueError, match="tokenizer goes along with the part clip"):
        store.save_pretrained(tmp_path / "m", CONFIG, variables, None, PARTS)


def test_saving_replaces_an_earlier_model_and_refuses_other_directories(
    tmp_path, model_dir, variables, text_tokenizer
):
    other = jax.tree.map(lambda x: x + 1, variables)
    store.save_pretrained(model_dir, CONFIG, other, text_tokenizer, PARTS)
    assert store.params_sha256(store.load_pretrained(model_dir).variables) == store.params_sha256(
        other
    )
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="precious exists and holds something else"):
        store.save_pretrained(precious, CONFIG, variables, text_tokenizer, PARTS)
    # A model of ours with a file of the user's beside it, and another library's configuration.
    (model_dir / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="model exists and holds something else"):
        store.save_pretrained(model_dir, CONFIG, variables, text_tokenizer, PARTS)
    (precious / "config.json").write_text('{"model_type": "another"}')
    with pytest.raises(ValueError, match="precious exists and holds something else"):
        store.save_pretrained(precious, CONFIG, variables, text_tokenizer, PARTS)
    assert (model_dir / "thesis.txt").is_file() and (precious / "thesis.txt").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "precious"]


def test_a_failed_save_leaves_the_earlier_model_and_no_litter(
    model_dir, variables, text_tokenizer, monkeypatch
):
    before = store.params_sha256(store.load_pretrained(model_dir).variables)

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.save_pretrained(model_dir, CONFIG, variables, text_tokenizer, PARTS)
    assert os.listdir(model_dir.parent) == ["model"]
    assert store.params_sha256(store.load_pretrained(model_dir).variables) == before


def test_values_that_are_not_finite_or_leave_float16_are_not_saved(
    tmp_path, variables, text_tokenizer
):
    huge = jax.tree.map(lambda x: x, variables)
    huge["params"]["clip"]["logit_scale"] = np.float32(1e6)
    with pytest.raises(ValueError, match=r"params/clip/logit_scale is not finite in float16"):
        store.save_pretrained(tmp_path / "m", CONFIG, huge, text_tokenizer, PARTS, dtype="float16")
    assert not list(tmp_path.iterdir())


def test_missing_extra_and_wrongly_shaped_tensors_are_all_named(model_dir):
    def edit(tensors):
        del tensors["params/clip/logit_scale"]
        tensors["params/clip/surplus"] = np.zeros(3, np.float32)
        name = next(name for name in tensors if name.endswith("kernel"))
        tensors[name] = np.zeros((1, 2), np.float32)

    _edit_tensors(model_dir, edit)
    with pytest.raises(ValueError) as caught:
        store.load_pretrained(model_dir)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all("params.safetensors" in line for line in lines)
    assert "missing" in lines[0] and "params/clip/logit_scale" in lines[0]
    assert "params/clip/surplus" in lines[1]
    assert "has shape (1, 2), expected" in lines[2]


def test_integers_and_values_that_are_not_finite_are_refused(model_dir):
    def integers(tensors):
        tensors["params/clip/logit_scale"] = np.array(3, np.int32)

    _edit_tensors(model_dir, integers)
    with pytest.raises(ValueError, match="logit_scale is stored as I32, expected one of F32"):
        store.load_pretrained(model_dir)

    def nan(tensors):
        tensors["params/clip/logit_scale"] = np.array(np.nan, np.float32)

    _edit_tensors(model_dir, nan)
    with pytest.raises(ValueError, match="logit_scale holds values that are not finite"):
        store.load_pretrained(model_dir)


def test_missing_directories_and_files_are_named(model_dir):
    with pytest.raises(FileNotFoundError, match="nowhere is no model directory"):
        store.load_pretrained(model_dir.parent / "nowhere")
    for name in (store.TOKENIZER_FILE, store.PARAMS_FILE, store.CONFIG_FILE):
        (model_dir / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            store.load_pretrained(model_dir)


@pytest.mark.parametrize("name", [store.CONFIG_FILE, store.PARAMS_FILE, store.TOKENIZER_FILE])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe garbage", b"[" * 2000])
def test_unreadable_files_are_named(model_dir, name, content):
    (model_dir / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        store.load_pretrained(model_dir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"parts": ["clip", "wheels"]}, "parts are"),
        ({"parts": "clip"}, "expected a list of names"),
        ({"parts": []}, "parts are"),
        ({"model": {"dim": 3}}, "missing fields"),
        ({"model": 3}, "expected an object"),
        ({"metadata": 3}, "metadata: expected an object"),
        ({"surplus": 1}, "expected an object with exactly"),
    ],
)
def test_wrong_entries_of_the_configuration_are_named(model_dir, changes, message):
    _edit_config(model_dir, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        store.load_pretrained(model_dir)
    assert "config.json" in str(caught.value)


def test_sizes_that_make_no_model_are_one_sentence(model_dir):
    model = json.loads((model_dir / store.CONFIG_FILE).read_text())["model"]
    _edit_config(model_dir, model=model | {"num_heads": -3})
    with pytest.raises(ValueError, match="no model can be built of these sizes"):
        store.load_pretrained(model_dir)


def test_digest_depends_on_names_shapes_dtypes_and_values_alone():
    a = {"params": {"x": np.arange(6, dtype=np.float32)}, "fixed": {"y": np.ones(2, np.float32)}}
    same = {"fixed": {"y": np.ones(2, np.float32)}, "params": {"x": np.arange(6.0)[::1]}}
    same["params"]["x"] = same["params"]["x"].astype(np.float32)
    digest = store.params_sha256(a)
    assert len(digest) == 64 and store.params_sha256(same) == digest
    for other in (
        {"x": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"x": np.arange(6, dtype=np.int32)},
        {"z": np.arange(6, dtype=np.float32)},
        {"x": np.arange(1, 7, dtype=np.float32)},
    ):
        assert store.params_sha256(a | {"params": other}) != digest


def test_a_tokenizer_of_another_model_is_refused(tmp_path, model_dir, variables):
    other = train_tokenizer(["a red ball"], 300, CONFIG.clip.context_length)
    size = CONFIG.clip.vocab_size
    message = f"tokenizer has 300 ids and 32 positions, but the text tower {size} and 32"
    with pytest.raises(ValueError, match=message):
        store.save_pretrained(tmp_path / "m", CONFIG, variables, other, PARTS)
    (model_dir / store.TOKENIZER_FILE).write_text(other.to_json())
    with pytest.raises(ValueError, match=f"tokenizer.json: the {message}"):
        store.load_pretrained(model_dir)


def test_an_adapter_part_needs_an_adapter(tmp_path, variables, text_tokenizer):
    config = dataclasses.replace(CONFIG, adapter=None)
    with pytest.raises(ValueError, match="the model has no adapter"):
        store.save_pretrained(tmp_path / "m", config, variables, text_tokenizer, PARTS)
