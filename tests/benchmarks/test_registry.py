"""Benchmarks by name."""

import layouts
import pytest

from uniovseg_jax.benchmarks.paper import (
    OURS,
    names_notes,
    paper_matching_accuracy,
    paper_rows,
    paper_score,
)
from uniovseg_jax.benchmarks.registry import BENCHMARKS, open_benchmarks


def test_an_unknown_name_gets_the_list(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown benchmark 'ade'; expected one of ade20k_150, "):
        open_benchmarks("ade", tmp_path)


def test_a_missing_data_root_and_a_missing_dataset_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no data folder .*nowhere"):
        open_benchmarks("cityscapes", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="There is no folder .*leftImg8bit"):
        open_benchmarks("cityscapes", tmp_path)


def test_the_usual_split_is_the_validation_split(tmp_path):
    layouts.make_voc(tmp_path, "val")
    assert open_benchmarks("pascal_voc21", tmp_path)[0].images.keys() == (
        open_benchmarks("pascal_voc21", tmp_path, "val")[0].images.keys()
    )
    with pytest.raises(ValueError, match="no split 'test'; expected train or val"):
        open_benchmarks("pascal_voc21", tmp_path, "test")
    with pytest.raises(ValueError, match="no split 'test'; expected one of train, val"):
        open_benchmarks("ndispark", tmp_path, "test")


def test_the_papers_numbers_are_those_of_known_benchmarks():
    for row in paper_rows():
        assert set(row.scores) <= set(BENCHMARKS)
    # arXiv 2402.08960, tables 1 and 2.
    assert paper_score("ade20k_847", "semantic.miou") == 13.5
    assert paper_score("pascal_voc20", "semantic.miou") == 91.9
    assert paper_score("coco_panoptic", "panoptic.rq") == 24.3
    assert paper_score("coco_panoptic", "semantic.miou") == 42.7
    assert paper_score("ade20k_150", "panoptic.things.pq") is None
    # Not the same as PAS-21.
    assert paper_score("pascal_voc21_threshold", "semantic.miou") is None
    assert any(row.method == OURS for row in paper_rows())
    assert paper_matching_accuracy("ade20k_150")[768,] == (45.2, 0.1)
    assert paper_matching_accuracy("cityscapes") == {}


def test_official_names_beside_a_number_of_the_paper_are_noted():
    (note,) = names_notes("ade20k_847", "")
    assert "longer lists of names" in note
    assert names_notes("pascal_voc21", "")[0] == note
    assert "74 names" in names_notes("pascal_voc21", "")[1]
    assert names_notes("ade20k_847", "names.txt") == names_notes("folder", "") == ()
