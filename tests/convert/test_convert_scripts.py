"""The two conversion scripts as a user calls them, on small models."""

import dataclasses
import importlib.util
import json

import jax
import numpy as np
import pytest
import script_call
from programs import ROOT
from safetensors.numpy import load_file, save_file

from convert.checkpoints import read_checkpoint, write_checkpoint
from convert.openclip_rules import OPENCLIP_RULES
from convert.random_weights import random_variables
from convert.uniovseg_rules import MASK_RULES, UNIOVSEG_RULES
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import abstract_variables, init_variables
from uniovseg_jax.weights.engine import invert
from uniovseg_jax.weights.store import flatten_variables, load_pretrained, save_pretrained

GOLDEN = ROOT / "tests" / "goldens" / "official_decoder_small.npz"


@pytest.fixture(scope="module")
def small_config():
    """The preset `test`, with what the published layout cannot say otherwise."""
    config = get_preset("test")
    clip = dataclasses.replace(config.clip, text_width=128, text_heads=2)
    return dataclasses.replace(
        config, clip=clip, dim=64, num_groups=32, pooling="binary", adapter=None
    )


@pytest.fixture(scope="module")
def variables(small_config):
    """Random variables in which layer scales do not hide the blocks."""
    variables = init_variables(small_config, jax.random.key(0), ("clip", "masks"))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.asarray(x) + 0.05 * rng.standard_normal(x.shape).astype(np.float32),
        variables,
    )


@pytest.fixture(scope="module")
def clip_dir(small_config, variables, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "clip"
    tokenizer = train_tokenizer(["a red ball"], 1024, 32)
    params = {"params": {"clip": variables["params"]["clip"]}, "fixed": {}}
    save_pretrained(directory, small_config, params, tokenizer, ("clip",))
    return directory


@pytest.fixture(scope="module")
def masks_file(variables, tmp_path_factory):
    flat = flatten_variables(variables)
    flat = {path: x for path, x in flat.items() if not path.startswith("params/clip/")}
    path = tmp_path_factory.mktemp("published") / "masks.safetensors"
    write_checkpoint(path, invert(flat, MASK_RULES))
    return path


def test_the_authors_outputs_are_reproduced():
    code, out, err = script_call.run("convert_uniovseg", f"--fixture={GOLDEN}")
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    assert last["passed"] is True and len(last["max_abs_error"]) == 20
    assert max(last["max_abs_error"].values()) <= 1e-4


def test_a_fixture_that_differs_fails(tmp_path):
    with np.load(GOLDEN) as file:
        arrays = dict(file)
    arrays["out/points/pred_ious"] = arrays["out/points/pred_ious"] + 0.01
    np.savez(tmp_path / "other.npz", **arrays)
    code, out, _ = script_call.run("convert_uniovseg", f"--fixture={tmp_path / 'other.npz'}")
    last = json.loads(out.splitlines()[-1])
    assert code == 1 and last["passed"] is False
    assert last["max_abs_error"]["points/pred_ious"] == pytest.approx(0.01, abs=1e-4)


def test_masks_and_clip_become_a_verified_model(masks_file, clip_dir, variables, tmp_path):
    output = tmp_path / "model"
    code, out, err = script_call.run(
        "convert_uniovseg",
        f"--checkpoint={masks_file}",
        f"--clip={clip_dir}",
        f"--output={output}",
        "--verify",
        "--sizes=64",
    )
    assert code == 0, out + err
    assert "sem_seg_head.pixel_decoder: " in out and "Parity passed" in out
    document = json.loads((output / "parity.json").read_text())
    assert document["passed"] and document["max_abs_error"]["masks/layer_3"] < 1e-4
    assert "float64" in (output / "parity.md").read_text()
    found = load_pretrained(output)
    assert found.parts == ("clip", "masks") and found.config.num_heads == 4
    jax.tree.map(np.testing.assert_array_equal, found.variables["params"], variables["params"])


def test_the_way_back_is_byte_equal(clip_dir, variables, tmp_path):
    path = tmp_path / "clip.safetensors"
    code, out, err = script_call.run(
        "convert_openclip", "--to_torch", f"--model={clip_dir}", f"--output={path}"
    )
    assert code == 0, out + err
    params = {"params": {"clip": variables["params"]["clip"]}}
    expected = invert(flatten_variables(params), OPENCLIP_RULES)
    found = load_file(path)
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].tobytes() == np.ascontiguousarray(tensor).tobytes(), name


@pytest.fixture(scope="module")
def complete(small_config):
    """Flat variables of masks and a CLIP with the published vocabulary."""
    clip = dataclasses.replace(
        small_config.clip, text_width=64, text_heads=1, vocab_size=49408, context_length=77
    )
    config = dataclasses.replace(small_config, clip=clip)
    return random_variables(abstract_variables(config, ("clip", "masks")), seed=1)


def test_a_complete_published_pickle_becomes_a_verified_model_and_goes_back(
    open_clip, complete, tmp_path
):
    import torch

    published = invert(complete, UNIOVSEG_RULES)
    path, output, back = tmp_path / "stage1.pth", tmp_path / "model", tmp_path / "back.pth"
    # As training code leaves them: parameters, and a counter beside them.
    state = {k: torch.nn.Parameter(torch.from_numpy(np.array(x))) for k, x in published.items()}
    torch.save({"model": state, "iteration": 110_000}, path)
    code, out, err = script_call.run(
        "convert_uniovseg", f"--checkpoint={path}", f"--output={output}"
    )
    assert code == 0, out + err
    assert "backbone.clip_model: " in out and "parts clip, masks" in out
    found = load_pretrained(output)
    flat = flatten_variables(found.variables)
    assert sorted(flat) == sorted(complete)
    for name, array in complete.items():
        np.testing.assert_array_equal(flat[name], array)
    assert found.config.clip.vocab_size == 49408 and found.config.adapter is None

    code, out, err = script_call.run(
        "convert_uniovseg", "--to_torch", f"--model={output}", f"--output={back}"
    )
    assert code == 0, out + err
    again = read_checkpoint(back)
    assert sorted(again) == sorted(published)
    for name, array in published.items():
        assert again[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


def test_a_small_vocabulary_has_no_tokenizer(variables, tmp_path):
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("CLIP's vocabulary comes with open_clip_torch (extra: convert)")
    path = tmp_path / "stage1.safetensors"
    write_checkpoint(path, invert(flatten_variables(variables), UNIOVSEG_RULES))
    code, _, err = script_call.run(
        "convert_uniovseg", f"--checkpoint={path}", f"--output={tmp_path / 'model'}"
    )
    assert code == 2 and "1024 token ids" in err and not (tmp_path / "model").exists()


def test_nothing_but_a_model_is_replaced(masks_file, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "another"}')
    (folder / "notes.txt").write_text("mine")
    code, _, err = script_call.run(
        "convert_uniovseg", f"--checkpoint={masks_file}", f"--output={folder}"
    )
    assert code == 2 and "holds something else than a model directory" in err
    assert sorted(entry.name for entry in folder.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize("script", ["convert_uniovseg", "convert_openclip", "random_model"])
def test_a_wrong_flag_is_one_sentence(script):
    for flags in (["--nothing=1", "--output=/tmp/x"], [], ["--output=/tmp/x", "--seed=x"]):
        code, _, err = script_call.run(script, *flags)
        assert code == 2 and "Traceback" not in err and err.startswith("error: "), (flags, err)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give one of --checkpoint, --fixture, or --to_torch with --model."),
        (["--checkpoint=/nothing.pth", "--output=/tmp/x"], "/nothing.pth: no such file"),
        (["--checkpoint=/nothing.pth"], "--output is missing"),
        (
            ["--checkpoint=/nothing.pth", "--output=/tmp/x", "--verify", "--sizes=big"],
            "--sizes is big; expected whole numbers such as 320,1024.",
        ),
        (
            ["--checkpoint=/nothing.pth", "--output=/tmp/x", "--verify", "--sizes=33"],
            "Sides to verify at are [33]; expected multiples of 32 (--sizes).",
        ),
        (["--fixture=/nothing.npz"], "/nothing.npz: no such file"),
        (["--model=/nothing", "--to_torch", "--output=/tmp/x"], "/nothing is no model directory"),
    ],
)
def test_mistakes_are_one_sentence(flags, message):
    code, _, err = script_call.run("convert_uniovseg", *flags)
    assert code == 2 and message in err and "Traceback" not in err


def test_every_mismatch_is_reported_at_once(masks_file, tmp_path):
    state = load_file(masks_file)
    predictor = "sem_seg_head.predictor"
    del state[f"{predictor}.decoder_norm.bias"]
    state["extra.weight"] = np.zeros(3, np.float32)
    state[f"{predictor}.feat_embed.bias"] = np.zeros(7, np.float32)
    save_file(state, str(tmp_path / "broken.safetensors"))
    code, _, err = script_call.run(
        "convert_uniovseg",
        f"--checkpoint={tmp_path / 'broken.safetensors'}",
        f"--output={tmp_path / 'model'}",
    )
    assert code == 2 and "3 mismatches" in err and not (tmp_path / "model").exists()
    for part in ("decoder_norm/bias", "extra.weight", "feat_embed/bias"):
        assert part in err
