"""What holds for the preparation of every dataset, shown with VOC."""

import json
import multiprocessing
import pathlib

import numpy as np
import pytest
from original_files import read, run, write_voc

from uniovseg_jax.benchmarks.preparation import prepare as module
from uniovseg_jax.benchmarks.preparation.prepare import NAMES, find_recipe, prepare
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.locks import held_alone

_LABELS = {f"2007_00000{n}": np.full((6, 8), n) for n in range(4)}
_MADE = ("images", "annotations_pascal21", "annotations_pascal20")


@pytest.fixture
def source(tmp_path):
    """The devkit's folder in `tmp_path`."""
    return write_voc(tmp_path, _LABELS)


def _files(root):
    """Contents and times of all files that were made."""
    paths = [path for path in sorted((root / "pascal_voc_d2").rglob("*")) if path.is_file()]
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def _contents(root):
    return {name: content for name, (content, _) in _files(root).items()}


def test_a_second_run_touches_nothing(tmp_path, source):
    first = run("voc", tmp_path, 4)
    assert (first.images, first.written, first.kept) == (4, 13, 0)
    before = _files(tmp_path)
    assert len(before) == 13
    second = run("voc", tmp_path, 4)
    assert (second.written, second.kept) == (0, 13)
    assert _files(tmp_path) == before


@pytest.mark.parametrize("damage", ["missing", "empty", "changed", "image"])
def test_what_is_wrong_is_made_again_and_nothing_else(tmp_path, source, damage):
    run("voc", tmp_path, 4)
    before = _files(tmp_path)
    folder = "images" if damage == "image" else "annotations_pascal20"
    path = next((tmp_path / "pascal_voc_d2" / folder / "validation").glob("*3.*"))
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[:-20] + bytes(20))
    done = run("voc", tmp_path, 4)
    # And the record of the split, which was removed before.
    assert (done.written, done.kept) == (2, 11)
    after = _files(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {str(path.relative_to(tmp_path)), "pascal_voc_d2/prepared_val.json"}
    assert _contents(tmp_path) == {name: content for name, (content, _) in before.items()}


@pytest.mark.parametrize("stop", range(0, 13, 3))
def test_a_killed_run_leaves_whole_files_and_goes_on(tmp_path, source, monkeypatch, stop):
    calls, write_whole = [], module.write_whole

    def write_some(path, write):
        if len(calls) == stop:
            # As killed between writing and renaming, where nothing can clean up.
            write(path.with_name(f".{path.name}.0123abcd.tmp{path.suffix}"))
            raise KeyboardInterrupt
        calls.append(path)
        write_whole(path, write)

    monkeypatch.setattr(module, "write_whole", write_some)
    with pytest.raises(KeyboardInterrupt):
        run("voc", tmp_path, 4)
    monkeypatch.undo()
    partial = _contents(tmp_path)
    assert "pascal_voc_d2/prepared_val.json" not in partial
    # What it had made by then is no benchmark.
    command = f"prepare_data.py voc --split=val --data_dir={tmp_path}` to its end"
    assert partial.pop("pascal_voc_d2/unfinished_val.txt") == b"voc --split=val"
    if (tmp_path / "pascal_voc_d2/annotations_pascal21/validation").is_dir():
        with pytest.raises(ValueError, match=command):
            open_benchmarks("pascal_voc21", tmp_path)
    done = run("voc", tmp_path, 4)
    assert (done.written, done.kept) == (13 - stop, stop)
    whole = _contents(tmp_path)
    assert len(whole) == 13
    finished = {name: content for name, content in partial.items() if "/." not in name}
    assert len(finished) == stop and finished.items() <= whole.items()
    assert len(open_benchmarks("pascal_voc21", tmp_path)[0].images) == 4


def test_a_repetition_that_fails_before_anything_changes_leaves_the_set_usable(tmp_path, source):
    run("voc", tmp_path, 4)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000002.png").write_bytes(b"no PNG")
    with pytest.raises(ValueError, match="2007_000002.png"):
        run("voc", tmp_path, 4)
    assert not (tmp_path / "pascal_voc_d2" / "unfinished_val.txt").exists()
    assert len(open_benchmarks("pascal_voc21", tmp_path)[0].images) == 4


def test_the_sign_of_completeness_is_gone_while_files_change(tmp_path, source, monkeypatch):
    run("voc", tmp_path, 4)
    record = tmp_path / "pascal_voc_d2" / "prepared_val.json"
    assert json.loads(record.read_text()) == {"images": 4}
    write_voc(tmp_path, {**_LABELS, "2007_000002": np.full((6, 8), 9)})
    seen, write_whole = [], module.write_whole

    def write(path, content):
        seen.append((path.name, record.exists()))
        write_whole(path, content)

    monkeypatch.setattr(module, "write_whole", write)
    run("voc", tmp_path, 4)
    png = "2007_000002.png"
    assert seen == [(png, False), (png, False), ("prepared_val.json", False)]


def test_several_processes_make_the_same(tmp_path, source):
    run("voc", tmp_path, 4)
    expected = _contents(tmp_path)
    (tmp_path / "pascal_voc_d2").rename(tmp_path / "one")
    run("voc", tmp_path, 4, num_workers=2)
    assert _contents(tmp_path) == expected
    assert not multiprocessing.active_children()


def test_the_first_missing_file_is_named_before_anything_is_written(tmp_path, source):
    (source / "SegmentationClass" / "2007_000003.png").unlink()
    (source / "JPEGImages" / "2007_000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"There is no file .*JPEGImages/2007_000002.jpg"):
        run("voc", tmp_path, 4)
    assert not (tmp_path / "pascal_voc_d2").exists()


def test_the_first_wrong_file_is_named_and_those_before_it_are_there(tmp_path, source):
    for name in ("2007_000002", "2007_000003"):
        (source / "SegmentationClass" / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"SegmentationClass/2007_000002.png cannot be read"):
        run("voc", tmp_path, 4)
    made = [path.stem for path in (tmp_path / "pascal_voc_d2" / "images").rglob("*.jpg")]
    assert sorted(made) == ["2007_000000", "2007_000001"]


def test_real_counts_are_expected_unless_said_otherwise(tmp_path, source):
    with pytest.raises(ValueError, match=r"voc val has 4 images in .*, expected 1449"):
        prepare(find_recipe("voc"), tmp_path)
    with pytest.raises(ValueError, match="has 4 images in .*, expected 5"):
        run("voc", tmp_path, 5)
    assert not (tmp_path / "pascal_voc_d2").exists()


def test_files_of_other_images_are_refused(tmp_path, source):
    run("voc", tmp_path, 4)
    folder = tmp_path / "pascal_voc_d2" / "annotations_pascal21" / "validation"
    (folder / ".DS_Store").write_bytes(b"of a desktop")
    (folder / "2007_000009.png").write_bytes(b"")
    with pytest.raises(ValueError, match="2007_000009.png is of no image of this split"):
        run("voc", tmp_path, 4)


def test_two_preparations_of_a_dataset_do_not_meet(tmp_path, source):
    with held_alone(tmp_path / "pascal_voc_d2", "preparation"):
        with pytest.raises(ValueError, match="in use by another preparation"):
            run("voc", tmp_path, 4)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_names_what_is_missing(tmp_path, name):
    recipe = find_recipe(name)
    assert recipe.name == name and recipe.downloads and recipe.makes
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        prepare(recipe, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "folder", "looks"),
    [
        ("ade20k", "ADEChallengeData2016/images/validation", r"ADE_val_<number>\.jpg"),
        ("cityscapes", "cityscapes/leftImg8bit/val/ulm", r"<frame>_leftImg8bit\.png"),
    ],
)
def test_names_that_are_expected_are_told_in_words(tmp_path, name, folder, looks):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cityscapes/gtFine/val").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=f"holds no file whose name is like {looks}"):
        prepare(find_recipe(name), tmp_path)


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(ValueError, match="Unknown dataset 'camvid'; expected one of coco, ade20k,"):
        find_recipe("camvid")
    with pytest.raises(ValueError, match="short_side must be at least 1"):
        find_recipe("ade20k_full", 0)
    with pytest.raises(ValueError, match="Unknown split 'test'; expected one of train, val"):
        prepare(find_recipe("voc"), tmp_path, "test")
    with pytest.raises(OSError, match="There is no folder .*nowhere; expected"):
        prepare(find_recipe("voc"), tmp_path / "nowhere")


def test_copies_keep_their_bytes(tmp_path, source):
    run("voc", tmp_path, 4)
    made = tmp_path / "pascal_voc_d2" / "images" / "validation"
    for path in made.iterdir():
        assert path.read_bytes() == (source / "JPEGImages" / path.name).read_bytes()
        assert read(path)[1].shape == (6, 8, 3)
    assert isinstance(made, pathlib.Path) and len(list(made.iterdir())) == 4
