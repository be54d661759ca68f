"""Vocabularies as people type them, and as files."""

import pytest

from uniovseg_jax.vocabulary import parse_vocabulary, read_class_lines, read_vocabulary


def test_a_string_and_a_list_make_the_same_vocabulary():
    typed = parse_vocabulary("grass, red ball | red  sphere", stuff="grass", background="sky")
    listed = parse_vocabulary(["grass", "red ball|red sphere"], ["grass"], ["sky"])
    assert typed == listed
    assert typed.labels == ("grass", "red ball", "sky")
    assert typed.names == ("grass", "red ball", "red sphere", "sky")
    assert typed.name_to_class.tolist() == [0, 1, 1, 2]
    assert [c.is_thing for c in typed.categories] == [False, True, False]
    assert typed.num_foreground == 2


def test_any_synonym_may_say_stuff():
    words = parse_vocabulary(["grass|lawn", "ball"], stuff=["lawn"])
    assert [c.is_thing for c in words.categories] == [False, True]


@pytest.mark.parametrize(
    ("names", "stuff", "background", "message"),
    [
        ("", "", "", "vocabulary is empty"),
        ([], [], [], "vocabulary is empty"),
        ([], [], ["sky"], "vocabulary is empty"),
        ("grass,,ball", "", "", "empty name"),
        ("grass,ball|", "", "", "empty name in 'ball|'"),
        ("grass,Grass", "", "", "'Grass' occurs twice"),
        ("grass,ball|grass", "", "", "'grass' occurs twice"),
        ("grass", "", "grass", "'grass' occurs twice"),
        ("grass", "sand", "", "stuff name 'sand' is not in the vocabulary"),
    ],
)
def test_unusable_vocabularies_are_one_clear_sentence(names, stuff, background, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as caught:
        parse_vocabulary(names, stuff, background)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "grass\nred ball,red sphere\n",
        "\ufeff0:grass\r\n\r\n7 : red ball , red  sphere\n",
        "3:grass,Grass\n1:red ball,red sphere,RED BALL",
    ],
)
def test_class_lists_are_read_line_by_line(tmp_path, text):
    path = tmp_path / "classes.txt"
    path.write_bytes(text.encode())
    words = read_vocabulary(path, stuff="grass", background="sky")
    assert [c.names for c in words.categories] == [("grass",), ("red ball", "red sphere"), ("sky",)]
    assert [c.is_thing for c in words.categories] == [False, True, False]
    assert words.num_foreground == 2


def test_placeholders_of_published_lists_are_no_classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("0:invalid_class_id\n1:person,child\n2:invalid_class_id\n3:car|van\n")
    words = read_vocabulary(path)
    assert [c.names for c in words.categories] == [("person", "child"), ("car", "van")]
    path.write_text("0:invalid_class_id\n")
    with pytest.raises(ValueError, match="is empty"):
        read_vocabulary(path)


def test_a_class_list_may_give_one_name_to_two_classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("1:screen,monitor\n2:screen door,screen\n")
    words = read_vocabulary(path)
    assert words.names == ("screen", "monitor", "screen door", "screen")
    assert words.name_to_class.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "classes.txt is empty"),
        (b" \n\n", "classes.txt is empty"),
        (b"grass\nball,,tree\n", "line 2: an empty name in 'ball,,tree'"),
        (b"1:\n", "line 1: an empty name"),
        (b"1:grass\nball\n", "an id of its own on every line, or on none"),
        (b"1:grass\n1:ball\n", "an id of its own on every line, or on none"),
        (b"\xff\xfe", "is no text in UTF-8"),
    ],
)
def test_unusable_class_lists_are_named(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_vocabulary(path)


def test_a_missing_class_list_and_unknown_stuff_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file; expected a class list"):
        read_vocabulary(tmp_path / "nothing.txt")
    (tmp_path / "classes.txt").write_text("grass\n")
    with pytest.raises(ValueError, match="stuff name 'sand' is not in the vocabulary"):
        read_vocabulary(tmp_path / "classes.txt", stuff="sand")


def test_lines_keep_their_ids_and_say_which_are_not_in_use(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("0:invalid_class_id\n7:red ball, RED ball,sphere")
    lines = read_class_lines(path)
    assert [(line.id, line.names) for line in lines] == [
        (0, ("invalid_class_id",)),
        (7, ("red ball", "sphere")),
    ]
    assert [line.is_placeholder for line in lines] == [True, False]
    path.write_text("a\n\nb: c")
    assert [line.id for line in read_class_lines(path)] == [None, None]
