"""Whose sentences they are, where several benchmarks say something."""

from uniovseg_jax.eval.sentences import sentences_of_parts, sentences_of_results


def document(benchmark, *sentences, **more):
    return {"benchmark": benchmark, "unverified": list(sentences), **more}


def test_what_not_all_parts_say_has_their_names():
    said = {"s/a": ["Open.", "2 images."], "s/b": ["Open.", "2 images."], "s/c": ["Open.", "3."]}
    assert sentences_of_parts(said) == ["Open.", "s/a, s/b: 2 images.", "s/c: 3."]


def test_results_share_a_sentence():
    documents = [document("a", "Open.", "Own."), document("b", "Open."), document("a", "Open.")]
    assert sentences_of_results(documents) == ["a, b: Open.", "a: Own."]


def test_a_suite_stands_for_its_parts():
    own = {"s/a": ["Open.", "2 images."], "s/b": ["Open."]}
    said = [*sentences_of_parts(own), "s/b is left out."]
    means = document("s", *said, parts=["s/a"])
    parts = [document(name, *texts) for name, texts in own.items()]
    expected = ["other, s: Open.", "s/a: 2 images.", "s: s/b is left out."]
    assert sentences_of_results([document("other", "Open."), *parts, means]) == expected
    # Without them it says all.
    assert sentences_of_results([means]) == [f"s: {text}" for text in said]
