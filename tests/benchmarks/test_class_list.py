"""Class lists and the names that published files give their classes."""

import json
import os
import pathlib

import numpy as np
import pytest

from uniovseg_jax.benchmarks.class_list import VOID, ClassInfo, ClassList, load_class_list

COUNTS = {
    "coco_panoptic_133": 133,
    "ade20k_150": 150,
    "ade20k_847": 847,
    "pascal_context_59": 59,
    "pascal_context_459": 459,
    "voc_20": 20,
    "voc_21": 21,
    "cityscapes_19": 19,
}
NAMES = {
    "coco_panoptic_133": 254,
    "ade20k_150": 403,
    "ade20k_847": 1342,
    "pascal_context_59": 160,
    "pascal_context_459": 559,
    "voc_20": 79,
    "voc_21": 153,
    "cityscapes_19": 60,
}


def tiny(synonym_ids, ids=(3, 9, 40)):
    names = (("cat",), ("screen", "Cat", " screen "), ("screen", "display"))
    infos = [
        ClassInfo(number, own[0], own[1:], isthing=number == 9)
        for number, own in zip(ids, names, strict=True)
    ]
    return ClassList("tiny", tuple(infos), synonym_ids)


@pytest.mark.parametrize("name", COUNTS)
def test_lists_have_the_published_lengths_and_ids_that_differ(name):
    classes = load_class_list(name)
    assert len(classes) == COUNTS[name] == len(classes.index_of)
    table = classes.lookup(4000)
    assert np.count_nonzero(table != VOID) == len(classes)
    assert all(table[info.id] == index for index, info in enumerate(classes.classes))
    assert classes.numbered_by_index().index_of == {n: n for n in range(len(classes))}


def test_things_are_those_of_the_panoptic_datasets():
    counts = {name: load_class_list(name).is_thing.sum() for name in COUNTS}
    assert (counts["coco_panoptic_133"], counts["ade20k_150"], counts["cityscapes_19"]) == (
        80,
        100,
        8,
    )


def test_official_names_may_be_shared_and_repeats_within_a_class_count_once():
    vocabulary = tiny("id").vocabulary()
    assert [category.names for category in vocabulary.categories] == [
        ("cat",),
        ("screen", "Cat"),
        ("screen", "display"),
    ]
    assert vocabulary.name_to_class.tolist() == [0, 1, 1, 2, 2]
    assert [category.is_thing for category in vocabulary.categories] == [False, True, False]
    assert not any(category.is_background for category in vocabulary.categories)


@pytest.mark.parametrize(
    ("synonym_ids", "numbers"), [("id", (3, 9, 40)), ("index", (0, 1, 2)), ("index + 1", (1, 2, 3))]
)
def test_published_names_are_found_by_their_numbers_in_any_order(tmp_path, synonym_ids, numbers):
    path = tmp_path / "names.txt"
    lines = [f"{number}:name {n},shared" for n, number in enumerate(numbers)]
    path.write_text("\n".join([*lines[::-1], "77:invalid_class_id"]))
    vocabulary = tiny(synonym_ids).vocabulary(path)
    assert vocabulary.labels == ("name 0", "name 1", "name 2")
    assert vocabulary.names[1::2] == ("shared",) * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3:a\n9:b", "no line for 40, screen of tiny; expected one for each of the 3"),
        ("3:a\n9:b\n40:invalid_class_id", "no line for 40"),
        ("3:a\n9:b\n40:c\n41:d", "a line for 41, which is no class of tiny"),
        ("a\nb\nc", "lines without ids"),
        ("3:a\n9:b\n40:c,", "line 3: an empty name"),
        ("3:a\n9:b\n9:c", "an id of its own"),
    ],
)
def test_every_number_of_a_published_file_is_checked(tmp_path, text, message):
    path = tmp_path / "names.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        tiny("id").vocabulary(path)


def test_line_0_of_lists_that_count_from_1_is_of_no_class(tmp_path):
    path = tmp_path / "names.txt"
    background = ["0:background,box"]
    names = [f"{number}:{number} a" for number in range(1, 21)]
    path.write_text("\n".join(background + names))
    assert load_class_list("voc_20").vocabulary(path).labels[0] == "1 a"
    assert load_class_list("voc_21").vocabulary(path).labels[:2] == ("background", "1 a")
    with pytest.raises(ValueError, match="no line for 0, road of cityscapes_19"):
        path.write_text("\n".join(names[:18]))
        load_class_list("cityscapes_19").vocabulary(path)


@pytest.mark.parametrize("name", COUNTS)
def test_published_names_of_every_list_fit(name, tmp_path):
    folder = pathlib.Path(os.environ.get("UNIOVSEG_SHARED", "")) / "vocab"
    if not (folder / f"{name}.json").is_file():
        pytest.skip("the published names are not here (UNIOVSEG_SHARED)")
    rows = json.loads((folder / f"{name}.json").read_text())["classes"]
    classes = load_class_list(name)
    assert [row["id"] for row in rows] == [info.id for info in classes.classes]
    assert sum(len(row["prompt_names"]) for row in rows) == NAMES[name]
    number = {"id": lambda row: row["id"], "index": lambda row: row["index"]}.get(
        classes.synonym_ids, lambda row: row["index"] + 1
    )
    path = tmp_path / "names.txt"
    path.write_text("\n".join(f"{number(row)}:{','.join(row['prompt_names'])}" for row in rows))
    vocabulary = classes.vocabulary(path)
    assert len(vocabulary.categories) == len(classes)
    for category, row in zip(vocabulary.categories, rows, strict=True):
        assert category.names == tuple(dict.fromkeys(row["prompt_names"]))
    # The file itself will do as well.
    assert classes.vocabulary(folder / f"{name}.json") == vocabulary


def json_rows(**changes):
    rows = [
        {"id": number, "index": n, "prompt_names": [f"name {n}", "shared"]}
        for n, number in enumerate((3, 9, 40))
    ]
    rows[1] |= changes
    return {"classes": rows}


def test_names_in_json_are_found_by_their_indices_in_any_order(tmp_path):
    path = tmp_path / "names.json"
    document = json_rows(prompt_names=["one  name", "more, or less", "One name"])
    document["classes"].reverse()
    path.write_text(json.dumps(document))
    for synonym_ids in ("id", "index", "index + 1"):
        vocabulary = tiny(synonym_ids).vocabulary(str(path))
        assert vocabulary.labels == ("name 0", "one name", "name 2")
        assert vocabulary.categories[1].names == ("one name", "more, or less")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], 'expected an object with a list "classes"'),
        ({"classes": [3]}, 'a list "classes" of objects'),
        ({"classes": []}, "has 0 classes; expected those of tiny, with an index from 0 to 2 each"),
        (json_rows(index=0), "with an index from 0 to 2 each"),
        (json_rows(index="1"), "with an index from 0 to 2 each"),
        (json_rows(id=8), "class 1: id 8; screen of tiny is 9"),
        (json_rows(prompt_names=[]), 'class 1: expected names in "prompt_names"'),
        (json_rows(prompt_names=["a", " "]), 'class 1: expected names in "prompt_names"'),
        (json_rows(prompt_names="cat"), 'class 1: expected names in "prompt_names"'),
    ],
)
def test_every_class_of_names_in_json_is_checked(tmp_path, document, message):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        tiny("id").vocabulary(path)


def test_names_in_json_that_are_missing_or_cut_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"names\.json: no such file"):
        tiny("id").vocabulary(tmp_path / "names.json")
    (tmp_path / "names.json").write_text('{"classes"')
    with pytest.raises(ValueError, match=r"names\.json is no JSON"):
        tiny("id").vocabulary(tmp_path / "names.json")


def test_names_of_several_words_are_whole():
    infos = {info.id: info for info in load_class_list("ade20k_150").classes}
    assert (infos[57].name, *infos[57].synonyms) == (
        "pool table",
        "billiard table",
        "snooker table",
    )
    assert infos[45].name == "chest of drawers" and infos[110].name == "swimming pool"
    names = [name for info in infos.values() for name in (info.name, *info.synonyms)]
    assert not {"of", "trash", "telly;goggle", "cooking"} & set(names)
