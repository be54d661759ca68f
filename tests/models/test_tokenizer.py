import json
import pathlib
import unicodedata

import numpy as np
import pytest

from uniovseg_jax.models.tokenizer import Tokenizer, clean_text, train_tokenizer

_CORPUS = [
    "A photo of a red ball on the grass.",
    "the blue house has a red door",
    "two yellow cars, a green tree and the blue house's roof",
]


@pytest.fixture(scope="module")
def clip_tokenizer(open_clip):
    folder = pathlib.Path(open_clip.__file__).parent
    return Tokenizer.from_clip_merges(folder / "bpe_simple_vocab_16e6.txt.gz")


@pytest.fixture(scope="module")
def small():
    return train_tokenizer(_CORPUS, vocab_size=200, context_length=16)


def _varied_texts(count):
    """Captions, odd punctuation, accents, other scripts, HTML, mojibake, long runs, any signs."""
    rng = np.random.default_rng(0)
    pieces = [
        "a photo of a cat.", "Crème brûlée", "it's we'll they've I'd", "&amp;lt;b&amp;gt;", "naïve",
        "1234 km/h", "日本語 テキスト", "Ελληνικά", "עברית", "हिन्दी", "العربية", "한국어",
        "русский", "😀👍", "schÃ¶n", "x-ray (2nd)", "don't", "...!?", "&#39;", "&copy;24", "&x;",
        "antidisestablishmentarianism", "   spaced\t\nout ", "#hash@tag", "½ cup", "ﬁne", "a_b_c",
        "THE QUICK BROWN FOX", "''s 'S", "e=mc^2", "“quoted”", "İstanbul", "über-groß", "~`|\\",
        "supercalifragilisticexpialidocious", "café&nbsp;noir", "🇫🇷 flag", "ab" * 40, "👨‍👩‍👧",
        "â€œmojibakeâ€\x9d", "Ã©tÃ©", "e\u0301 combining", "zero\u200bwidth", "\u00a0", "٣٤٥ Ⅷ ²",
        "http://x.org/?a=b&c=d", "a" * 300, "\x07bell", "<|startoftext|>", "word<|endoftext|>word",
    ]  # fmt: skip
    # Any sign that Python knows: what newer Unicode calls a letter depends on the library's age.
    planes = [(0x20, 0x250), (0x250, 0xD800), (0xE000, 0x10000), (0x10000, 0x1FBFF)]

    def signs():
        low, high = planes[rng.choice(len(planes), p=[0.6, 0.2, 0.1, 0.1])]
        found = map(chr, rng.integers(low, high, rng.integers(1, 12)))
        return "".join(sign for sign in found if unicodedata.category(sign) != "Cn")

    return [
        rng.choice(["", " "]).join(
            signs() if rng.random() < 0.2 else str(rng.choice(pieces))
            for _ in range(rng.integers(1, 12))
        )
        for _ in range(count)
    ]


def test_clip_vocabulary_gives_the_published_ids(clip_tokenizer):
    ids = clip_tokenizer(["a photo of a cat."])
    assert ids.shape == (1, 77) and ids.dtype == np.int32
    assert ids[0, :9].tolist() == [49406, 320, 1125, 539, 320, 2368, 269, 49407, 0]
    assert not ids[0, 8:].any()
    assert clip_tokenizer.vocab_size == 49408


def test_ten_thousand_varied_texts_equal_openclip(clip_tokenizer, open_clip):
    texts = ["", " ", "word " * 5000, *_varied_texts(10_000)]
    expected = open_clip.tokenizer.SimpleTokenizer()(texts).numpy()
    got = clip_tokenizer(texts)
    wrong = [text for text, a, b in zip(texts, got, expected, strict=True) if (a != b).any()]
    assert not wrong, (len(wrong), wrong[:5])


def test_every_sign_beside_a_letter_and_a_numeral_equals_openclip(clip_tokenizer, open_clip):
    # Two planes: beyond them lie rare Chinese signs only.
    signs = [chr(c) for c in range(1, 0x20000) if not 0xD800 <= c < 0xE000]
    texts = [f"a{sign}1" for sign in signs if unicodedata.category(sign) != "Cn"]
    wrong = []
    for start in range(0, len(texts), 10_000):
        chunk = texts[start : start + 10_000]
        expected = open_clip.tokenizer.SimpleTokenizer(context_length=24)(chunk).numpy()
        got = clip_tokenizer(chunk)[:, :24]
        wrong += [text for text, a, b in zip(chunk, got, expected, strict=True) if (a != b).any()]
    assert not wrong


def test_special_tokens_in_a_text_are_words(clip_tokenizer):
    ids = clip_tokenizer(["a <end_of_text> b"])[0]
    assert (ids == 49407).sum() == 1 and 49406 not in ids[1:]


def test_too_few_merges_are_refused():
    with pytest.raises(ValueError, match="at least 48894 lines"):
        Tokenizer.from_clip_merges(["#version", "a b"])


def test_text_is_cleaned_as_clip_does():
    assert clean_text("  Fish &amp;amp; Chips\n\t schÃ¶n ") == "fish & chips schön"


def test_ids_are_start_pairs_end_and_zeros(small):
    ids = small(["red ball", ""])
    assert ids.shape == (2, 16)
    assert ids[0, 0] == 198 and 199 in ids[0]
    assert ids[1].tolist() == [198, 199] + [0] * 14
    assert small.vocab_size == 200 and small.context_length == 16
    # The end token is the largest id: the text tower finds it by argmax.
    assert ids.max(1).tolist() == [199, 199]


def test_frequent_words_become_one_token(small):
    assert small.count("blue house") == 4
    assert small.count("zebra") > 3


def test_merges_follow_frequency_and_then_the_alphabet():
    merges = json.loads(train_tokenizer(["ab ab cd ba ba x"], 141, 8).to_json())["model"]["merges"]
    assert [tuple(pair) for pair in merges] == [("a", "b</w>"), ("b", "a</w>")]


def test_long_texts_are_cut_and_keep_their_end(small):
    text = "red " * 40
    ids = small([text])[0]
    assert ids[-1] == 199 and 199 not in ids[:-1]
    assert small.count(text) == 42


def test_case_and_white_space_do_not_matter(small):
    np.testing.assert_array_equal(small(["Red  BALL\n"]), small(["red ball"]))


def test_unknown_signs_take_room_so_that_they_are_not_lost(small):
    ids = small(["é"])[0]
    assert ids[0] == 198 and ids[1] == 0 and 199 in ids[2:]


def test_training_is_deterministic_and_survives_the_file(small, tmp_path):
    again = train_tokenizer(list(_CORPUS), vocab_size=200, context_length=16)
    assert again.to_json() == small.to_json()
    assert train_tokenizer(_CORPUS[::-1], 200, 16).to_json() == small.to_json()
    path = tmp_path / "tokenizer.json"
    path.write_text(small.to_json(), encoding="utf-8")
    loaded = Tokenizer.from_file(path)
    np.testing.assert_array_equal(loaded(_CORPUS), small(_CORPUS))
    assert loaded.count(_CORPUS[2]) == small.count(_CORPUS[2])
    assert (loaded.vocab_size, loaded.context_length) == (200, 16)


def test_no_texts_give_no_rows(small):
    assert small([]).shape == (0, 16)


def test_a_vocabulary_without_room_for_single_signs_is_refused():
    with pytest.raises(ValueError, match="at least 139 ids; asked for 100"):
        train_tokenizer(_CORPUS, vocab_size=100, context_length=16)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(FileNotFoundError, match="tokenizer.json: no such"):
        Tokenizer.from_file(path)
    for content in ("{}", "no json", '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'):
        path.write_text(content)
        with pytest.raises(ValueError, match="tokenizer.json: "):
            Tokenizer.from_file(path)
