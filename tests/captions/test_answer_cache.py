"""The cache of answers: what is another question, what is kept, what outlives a kill."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from uniovseg_jax.captions.chat.cache import AnswerCache, CachedChat
from uniovseg_jax.captions.chat.question import Failure, Question, ask_checked, question_key


class FakeChat:
    """Answers with the text that it was asked; keeps what it was asked."""

    name, model, batch_size, num_at_once = "fake", "m", 4, 1

    def __init__(self, answers=None):
        self.settings, self.asked, self.answers = {"temperature": 0}, [], answers

    def answer(self, questions):
        self.asked += questions
        if self.answers is not None:
            return [self.answers.pop(0) for _ in questions]
        return [question.turns[-1][1] for question in questions]

    def forget(self, questions):
        pass


def question(text="a", **changes):
    return Question((("system", "s"), ("user", text)), **changes)


def test_everything_that_decides_an_answer_is_in_its_key():
    chat = FakeChat()
    keys = [question_key(question(), "refine", chat), question_key(question(), "parse", chat)]
    keys += [question_key(question("b"), "parse", chat)]
    keys += [question_key(question(image_sha256="1"), "parse", chat)]
    keys += [question_key(question(wants_list=True), "parse", chat)]
    keys += [question_key(Question((("system", "t"), ("user", "a"))), "parse", chat)]
    chat.settings = {"temperature": 1}
    keys += [question_key(question(), "parse", chat)]
    chat.model = "n"
    keys += [question_key(question(), "parse", chat)]
    chat.name = "other"
    keys += [question_key(question(), "parse", chat)]
    assert len(set(keys)) == len(keys)
    assert keys[-1] == question_key(question(read_image=lambda: b""), "parse", chat)


def test_an_answer_is_asked_for_once_and_a_failure_again(tmp_path):
    cache = AnswerCache(tmp_path / "sub" / "a.sqlite")
    chat = FakeChat(["one", Failure("No."), "two"])
    cached = CachedChat(chat, "parse", cache)
    questions = [question("a"), question("b")]
    assert cached.answer(questions) == ["one", Failure("No.")]
    assert cached.answer(questions) == ["one", "two"]
    assert cached.answer(questions) == ["one", "two"]
    assert chat.asked == [*questions, questions[1]]
    cache.close()
    other = CachedChat(FakeChat([]), "parse", AnswerCache(tmp_path / "sub" / "a.sqlite"))
    assert other.answer(questions[::-1]) == ["two", "one"]


def test_the_same_question_in_several_threads_is_asked_once(tmp_path):
    class SlowChat(FakeChat):
        def answer(self, questions):
            time.sleep(0.1)
            return super().answer(questions)

    chat = SlowChat()
    cached = CachedChat(chat, "parse", AnswerCache(tmp_path / "a.sqlite"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(cached.answer, [[question("a"), question("b")]] * 8))
    assert answers == [["a", "b"]] * 8 and len(chat.asked) == 2
    assert cached.answer([question("c"), question("c")]) == ["c", "c"] and len(chat.asked) == 3
    # A failure is nobody's answer: each of those who waited asks once itself.
    failing = SlowChat([Failure("No."), "late"])
    cached = CachedChat(failing, "refine", AnswerCache(tmp_path / "a.sqlite"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(cached.answer, [[question("a")]] * 2))
    assert sorted(map(str, answers)) == ["['late']", "[Failure(reason='No.')]"]


@pytest.mark.parametrize("text", ["", "a\0b", "\u7403" * 1000, "x" * 3_000_000, "\r\n\u2028"])
def test_any_text_comes_back_as_it_was(tmp_path, text):
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache.put("k", text)
    cache.put("k", "a later one")
    assert cache.get("k") == text
    assert cache.get("other") is None


def test_what_was_put_outlives_a_kill(tmp_path):
    code = (
        "import os, sys; from uniovseg_jax.captions.chat.cache import AnswerCache\n"
        "cache = AnswerCache(sys.argv[1])\n"
        "for n in range(50): cache.put(str(n), str(n))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "a.sqlite"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment)
    assert done.returncode == -9
    cache = AnswerCache(path)
    assert [cache.get(str(n)) for n in range(50)] == [str(n) for n in range(50)]


def _fill(path, start):
    cache = AnswerCache(path)
    for number in range(start, start + 100):
        cache.put(str(number), str(number))


def test_processes_share_it(tmp_path):
    path = tmp_path / "a.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_fill, args=(path, start)) for start in (0, 50)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    cache = AnswerCache(path)
    assert [cache.get(str(n)) for n in range(150)] == [str(n) for n in range(150)]


def test_a_file_that_is_no_cache_is_one_sentence(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"no database, but long enough to be looked at" * 100)
    with pytest.raises(ValueError, match="a.sqlite cannot be used as a cache"):
        AnswerCache(tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="cannot be used as a cache"):
        AnswerCache(tmp_path)


def check(answer, is_last):
    if answer == "bad":
        raise ValueError("It is bad.")
    return (answer, is_last)


def test_a_useless_answer_is_asked_for_once_more_with_the_reason():
    chat = FakeChat(["good", "bad", Failure("No."), "bad", "better", "bad"])
    questions = [question(text) for text in "abcd"]
    assert ask_checked(chat, questions, [check] * 4) == [
        ("good", False),
        ("better", True),
        Failure("No."),
        Failure("Both answers of the model cannot be used. It is bad."),
    ]
    again = dataclasses.replace(
        questions[1],
        turns=(
            *questions[1].turns,
            ("assistant", "bad"),
            ("user", "This answer cannot be used. It is bad. Answer again."),
        ),
    )
    assert chat.asked[4] == again and len(chat.asked) == 6


def test_answers_that_nobody_could_use_are_not_kept(tmp_path):
    cache = AnswerCache(tmp_path / "a.sqlite")
    chat = FakeChat(["good", "bad", "bad", "better", "bad"])
    questions = [question(text) for text in "abc"]
    results = ask_checked(CachedChat(chat, "parse", cache), questions, [check] * 3)
    assert results[:2] == [("good", False), ("better", True)]
    assert isinstance(results[2], Failure)
    # Of what was resolved nothing is asked again, also where it took two answers.
    later = FakeChat(["good at last"])
    results = ask_checked(CachedChat(later, "parse", cache), questions, [check] * 3)
    assert results == [("good", False), ("better", True), ("good at last", False)]
    assert later.asked == [questions[2]]
