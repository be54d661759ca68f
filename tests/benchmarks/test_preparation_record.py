"""How labels were prepared, as a benchmark says it."""

import json

import layouts
import pytest

from uniovseg_jax.benchmarks.preparation_record import Note
from uniovseg_jax.benchmarks.registry import open_benchmarks


def open_one(name, root):
    (benchmark,) = open_benchmarks(name, root)
    return benchmark


def notes(benchmark):
    """What is said of it besides that there are few images."""
    return tuple(text for text in benchmark.unverified if "images were found" not in text)


def write_record(folder, **settings):
    (folder / "prepared_val.json").write_text(json.dumps({"images": 2, **settings}))


def test_a_prepared_benchmark_says_how_and_one_without_a_record_that_it_cannot(tmp_path):
    layouts.make_ade_full(tmp_path)
    found = open_one("ade20k_847", tmp_path)
    assert found.preparation is None
    assert "ADE20K_2021_17_01/prepared_val.json is not there" in found.unverified[0]
    write_record(tmp_path / "ADE20K_2021_17_01", short_side=512)
    found = open_one("ade20k_847", tmp_path)
    assert found.preparation == {"images": 2, "short_side": 512} and notes(found) == ()
    (tmp_path / "ADE20K_2021_17_01" / "prepared_val.json").write_text("[")
    with pytest.raises(ValueError, match=r"prepared_val\.json is no record of a preparation"):
        open_one("ade20k_847", tmp_path)


@pytest.mark.parametrize(
    ("make", "name", "folder"),
    [
        (layouts.make_ade, "ade20k_150", "ADEChallengeData2016"),
        (layouts.make_ade_full, "ade20k_847", "ADE20K_2021_17_01"),
        (layouts.make_cityscapes, "cityscapes", "cityscapes"),
        (layouts.make_context_prepared, "pascal_context_459", "pascal_ctx_d2"),
    ],
)
def test_what_was_begun_and_not_finished_is_not_opened(tmp_path, make, name, folder):
    make(tmp_path)
    Note(tmp_path / folder, "train", "set --split=train").leave()
    open_one(name, tmp_path)
    note = Note(tmp_path / folder, "val", "set --split=val")
    note.leave()
    command = f"scripts/prepare_data.py set --split=val --data_dir={tmp_path}`"
    with pytest.raises(ValueError, match=command):
        open_one(name, tmp_path)
    note.remove()
    open_one(name, tmp_path)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("trainval_merged.json", None),
        ("LabelMap of trainval/*.mat", "were prepared from the full label maps"),
        (None, "Whether the 59 classes were taken from PASCAL in Detail or from"),
    ],
)
def test_the_route_of_the_59_classes_is_said(tmp_path, source, text):
    layouts.make_context_prepared(tmp_path)
    write_record(tmp_path / "pascal_ctx_d2", **({"classes_59_from": source} if source else {}))
    found = notes(open_one("pascal_context_59", tmp_path))
    assert len(found) == (text is not None) and all(text in sentence for sentence in found)
    assert notes(open_one("pascal_context_459", tmp_path)) == ()


def test_what_owners_ship_was_not_prepared(tmp_path):
    layouts.make_voc(tmp_path)
    found = open_one("pascal_voc21", tmp_path)
    assert found.preparation is None and notes(found) == ()
    layouts.make_cityscapes(tmp_path)
    found = open_one("cityscapes", tmp_path)
    assert found.preparation is None
    assert any("Instance AP is COCO's rule" in sentence for sentence in found.unverified)
