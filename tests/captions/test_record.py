"""Records as lines of JSON: there and back, and what is refused."""

import json

import pytest

from uniovseg_jax.captions.record import (
    CaptionRecord,
    Entity,
    ImageReference,
    Tool,
    from_json,
    to_json,
)

FULL = CaptionRecord(
    id="a/1",
    image=ImageReference("tar", "00000.tar", "1.jpg", "ab" * 32, 640, 480),
    caption_raw=("A red ball.", "un ballon rouge \u2028 \u7403"),
    caption="A red ball.",
    entities=(Entity("red ball", "ball", (2, 10)), Entity("sky")),
    num_entities=5,
    source="webdataset_tar",
    refiner=Tool("openai_compatible", "m", "0123456789ab"),
    parser=Tool("rules"),
)


@pytest.mark.parametrize(
    "record",
    [
        FULL,
        CaptionRecord("1", ImageReference("url", "https://a/b.jpg"), ()),
        CaptionRecord("1", ImageReference("file", "a.jpg"), ("",), status="failed", error="No."),
    ],
)
def test_a_record_is_one_line_and_comes_back_the_same(record):
    line = to_json(record)
    assert len(line.splitlines()) == 1
    assert from_json(line) == record


def test_the_layout_is_the_documented_one():
    assert json.loads(to_json(FULL)) == {
        "id": "a/1",
        "image": {
            "kind": "tar",
            "path": "00000.tar",
            "member": "1.jpg",
            "sha256": "ab" * 32,
            "width": 640,
            "height": 480,
        },
        "caption_raw": ["A red ball.", "un ballon rouge \u2028 \u7403"],
        "caption": "A red ball.",
        "entities": [{"text": "red ball", "head": "ball", "span": [2, 10]}, {"text": "sky"}],
        "num_entities": 5,
        "meta": {
            "source": "webdataset_tar",
            "refiner": {
                "name": "openai_compatible",
                "model": "m",
                "prompt_hash": "0123456789ab",
            },
            "parser": {"name": "rules"},
            "status": "ok",
        },
    }


def test_half_characters_become_whole_ones():
    line = '{"id": "1", "image": {"kind": "file", "path": "a"}, "caption_raw": "x\\ud800y"}'
    record = from_json(line)
    assert record.caption_raw == ("x\ufffdy",)
    to_json(CaptionRecord("\ud800", ImageReference("file", "a"), ("\udfff",))).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 5}, "'id' is '5', expected text"),
        ({"id": None}, "'id' is 'None', expected text"),
        ({"image": "a.jpg"}, "'image' is 'a.jpg', expected an object"),
        ({"image": {"kind": "disk", "path": "a"}}, "'kind' is 'disk', expected one of file, tar"),
        ({"image": {"kind": "file", "path": "a", "width": 0}}, "'width' is 0"),
        ({"image": {"kind": "file", "path": "a", "height": True}}, "'height' is 'True'"),
        ({"caption_raw": 3}, "'caption_raw' is '3', expected a list or text"),
        ({"caption_raw": ["a", 3]}, "'caption_raw' is no list of texts"),
        ({"caption": []}, "'caption' is '\\[\\]', expected text"),
        ({"entities": ["ball"]}, "An entity is 'ball', expected an object"),
        ({"entities": [{"text": "a", "span": [1]}]}, "expected two whole numbers"),
        ({"entities": [{"text": "a", "span": [3, 1]}]}, "expected a first and a last place"),
        ({"entities": [{"text": "a"}], "num_entities": 0}, "fewer than the entities"),
        ({"meta": {"status": "fine"}}, "'status' is 'fine'"),
        ({"meta": {"parser": "rules"}}, "'parser' is 'rules', expected an object"),
    ],
)
def test_a_wrong_part_is_named(change, message):
    document = {**json.loads(to_json(FULL)), **change}
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps(document))


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "[" * 100_000, "7", "x" * (1 << 23)])
def test_other_text_is_no_record(line):
    with pytest.raises(ValueError, match="^The line"):
        from_json(line)
