"""Odd images, words and prompts give a correct result or one clear sentence, never a traceback.

Broken model directories are in weights/test_store.py, points and boxes outside the image in
inference/test_predictor.py, wrong flags and missing files in test_predict_script.py.
"""

import jax
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.image_io import read_image
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.visualize import overlay
from uniovseg_jax.weights.store import PARTS, Pretrained


@pytest.fixture(scope="module")
def segmenter():
    config = get_preset("test")
    tokenizer = train_tokenizer(["a"], config.clip.vocab_size, config.clip.context_length)
    variables = init_variables(config, jax.random.key(0), PARTS)
    pretrained = Pretrained(UniOVSeg(config), config, variables, tokenizer, PARTS, {})
    # Random weights have no idea of quality, so nothing may be filtered by it.
    proposals = ProposalConfig(points_per_side=3, score_threshold=0.0)
    settings = SegmenterConfig(proposals, object_threshold=0.0, templates="single")
    segmenter = OpenVocabularySegmenter(pretrained, settings)
    segmenter.set_vocabulary("grass,ball,house", stuff="grass")
    return segmenter


def _picture(hw):
    blocks = np.random.default_rng(0).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(blocks).resize(hw[::-1], Image.Resampling.NEAREST)


def _check_whole(result, hw):
    assert result.label_map.shape == hw
    for segment in result.segments:
        assert rle_decode(segment.rle).shape == hw and segment.area > 0


@pytest.mark.parametrize("hw", [(1, 1), (1, 20000), (40, 20000), (3000, 2)])
@pytest.mark.parametrize("task", ["panoptic", "semantic", "instance"])
def test_images_of_extreme_size_are_segmented_whole(segmenter, tmp_path, hw, task):
    _picture(hw).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png")
    result = segmenter.segment(image, task)
    _check_whole(result, hw)
    colours = np.zeros((max(3, len(result.segments)), 3), np.uint8)
    overlay(image, result.label_map, colours, {s.id: s.name for s in result.segments})


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_images_of_any_mode_are_segmented(segmenter, tmp_path, mode):
    if mode == "I;16":
        picture = Image.fromarray(np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60))
    else:
        picture = _picture((40, 60)).convert(mode)
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    picture.save(path)
    _check_whole(segmenter.segment(read_image(path)), (40, 60))


def test_a_rotated_photograph_gives_the_result_of_the_upright_one(segmenter, tmp_path):
    upright = _picture((40, 60))
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # Turn by 90 degrees clockwise for viewing.
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    results = [
        segmenter.segment(read_image(tmp_path / f"{name}.png")) for name in ("upright", "turned")
    ]
    assert results[0].label_map.shape == (40, 60)
    np.testing.assert_array_equal(results[0].label_map, results[1].label_map)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n garbage", b"<html>"])
def test_unreadable_images_are_named(tmp_path, content):
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="photo.png cannot be read as an image") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_missing_and_cut_off_images_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")
    _picture((200, 200)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.jpg cannot be read as an image"):
        read_image(tmp_path / "cut.jpg")


def test_three_thousand_names_give_a_result(segmenter):
    image = np.asarray(_picture((40, 60)))
    segmenter.set_vocabulary([f"name {i}" for i in range(3000)])
    for task in ("panoptic", "semantic"):
        _check_whole(segmenter.segment(image, task), (40, 60))


def test_a_failed_change_of_words_keeps_the_old_ones(segmenter):
    segmenter.set_vocabulary("grass,ball")
    image = np.asarray(_picture((40, 60)))
    before = segmenter.segment(image)
    for names, message in {"": "vocabulary is empty", "very " * 90: "too long: "}.items():
        with pytest.raises(ValueError, match=message):
            segmenter.set_vocabulary(names)
    after = segmenter.segment(image)
    assert [s.name for s in after.segments] == [s.name for s in before.segments]
    np.testing.assert_array_equal(after.label_map, before.label_map)
