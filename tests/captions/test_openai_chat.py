"""The client of OpenAI's protocol: what it sends, what it survives, what it gives up."""

import base64
import dataclasses
import datetime
import email.utils
import io
import json
import logging
import random
import re
import threading
import time
import urllib.parse
from urllib.parse import quote

import pytest
from caption_files import jpeg_of
from chat_server import KEY, ChatServer
from PIL import Image

from uniovseg_jax.captions.chat import openai_chat
from uniovseg_jax.captions.chat.hidden_key import HiddenKey
from uniovseg_jax.captions.chat.openai_chat import OpenAiChat
from uniovseg_jax.captions.chat.question import Failure, Question
from uniovseg_jax.captions.chat.rate import TokenBucket, backoff_delay, parse_retry_after
from uniovseg_jax.captions.chat.server_options import ServerOptions

PLAIN = Question((("system", "List."), ("user", "<caption>\nA red ball\n</caption>")))
GOOD = '{"entities": ["red ball"]}'


def options(server, **changes):
    values = {
        "base_url": server if isinstance(server, str) else server.url,
        "model": "fake",
        "api_key_env": "",
        "max_tokens": 99,
        "image_side": 16,
        "json_mode": "schema",
        "requests_per_minute": 0.0,
        "tokens_per_minute": 0.0,
        "num_at_once": 4,
        "deadline": 5.0,
        "max_attempts": 3,
        "backoff": 0.01,
    }
    return ServerOptions(**{**values, **changes})


def ask(server, question=PLAIN, **changes):
    with OpenAiChat(options(server, **changes)) as chat:
        return chat.answer([question])[0]


def test_the_request_is_the_documented_one():
    question = Question(PLAIN.turns, "ab", lambda: jpeg_of(1, (24, 48)), wants_list=True)
    with ChatServer() as server:
        ask(server, question)
        (body,) = server.bodies
    url = body["messages"][1]["content"][0]["image_url"].pop("url")
    prefix, _, content = url.partition(",")
    assert prefix == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (16, 8)
    schema = body.pop("response_format")["json_schema"]["schema"]
    assert schema["properties"]["entities"]["items"] == {"type": "string"}
    assert body == {
        "model": "fake",
        "messages": [
            {"role": "system", "content": "List."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {}},
                    {"type": "text", "text": PLAIN.turns[1][1]},
                ],
            },
        ],
        "temperature": 0,
        "max_tokens": 99,
    }


@pytest.mark.parametrize(
    ("mode", "kind"), [("schema", "json_schema"), ("object", "json_object"), ("none", None)]
)
def test_lists_are_asked_for_as_the_server_knows_it(mode, kind):
    with ChatServer() as server:
        ask(server, Question(PLAIN.turns, wants_list=True), json_mode=mode)
        ask(server, PLAIN, json_mode=mode)
    formats = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert formats == [kind, None]


@pytest.mark.parametrize(
    "fault",
    ["429", "429 date", "500", "503", "reset", "drip", "drip head", "html", "broken", "no reply",
     "huge"],
)  # fmt: skip
def test_what_goes_wrong_on_the_way_is_tried_again(fault):
    with ChatServer(script=(fault, fault, "")) as server:
        started = time.monotonic()
        assert ask(server, deadline=0.4 if "drip" in fault else 5.0) == GOOD
        assert len(server.calls) == 3
        assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "status 500: 'No. You sent .*'. Given up after 3 attempts"),
        ("reset", "connection to the server failed .*Given up after 3"),
        ("drip", "did not answer within 0.4 seconds. Given up after 3"),
        ("drip head", "did not answer within 0.4 seconds. Given up after 3"),
        ("html", "no chat reply: '<html><body>Please log in"),
        ("broken", "no chat reply"),
        ("no reply", "The server's answer is empty"),
        ("huge", "more than 1048576 bytes"),
    ],
)
def test_a_question_is_given_up_with_the_reason(fault, reason):
    with ChatServer(script=(fault,) * 3) as server:
        failure = ask(server, deadline=0.4 if "drip" in fault else 5.0)
        assert isinstance(failure, Failure)
        assert re.search(reason, failure.reason), failure.reason
        assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("400", "status 400.*set json_mode to object or none"),
        ("refusal", "The model refuses: 'I cannot help with that.'"),
        ("429 long", "It asks to wait for 86400 seconds"),
    ],
)
def test_what_will_not_change_is_not_tried_again(fault, reason):

    with ChatServer(script=(fault,)) as server:
        failure = ask(server)
        assert isinstance(failure, Failure) and re.search(reason, failure.reason), failure
        assert len(server.calls) == 1


def test_an_answer_that_was_cut_off_ends_with_its_last_whole_sentence():
    image = Question(PLAIN.turns, "ab", lambda: jpeg_of(1))
    plain = "A red ball with a small shadow."
    with ChatServer(script=("length", "length later", "length", "")) as server:
        failure = ask(server, image)
        assert isinstance(failure, Failure)
        assert "cut off before its first sentence ended; set max_tokens, which is 99" in (
            failure.reason
        )
        assert ask(server, image) == plain
        # A list is cut as well, which its reader repairs.
        listed = dataclasses.replace(PLAIN, wants_list=True)
        assert ask(server, listed) == GOOD[: len(GOOD) // 2]
        assert ask(server, image) == plain
        assert len(server.calls) == 4


@pytest.mark.parametrize("fault", ["401", "404"])
def test_what_concerns_every_question_is_an_error(fault):
    with (
        ChatServer(script=(fault,)) as server,
        OpenAiChat(options(server)) as chat,
    ):
        for _ in range(2):
            with pytest.raises(ValueError, match=f"status {fault}"):
                chat.answer([PLAIN])
        assert len(server.calls) == 1


def test_a_server_that_is_not_there_is_a_failure():
    failure = ask("http://127.0.0.1:9/v1")
    assert isinstance(failure, Failure) and "ConnectError" in failure.reason


def test_an_image_that_cannot_be_read_is_a_failure_and_not_sent():
    with ChatServer() as server:
        failure = ask(server, Question(PLAIN.turns, "ab", lambda: b"<html>"))
        assert isinstance(failure, Failure) and "cannot be read as an image" in failure.reason
        assert not server.calls


def test_the_key_is_sent_and_nowhere_else(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CANARY_KEY", KEY)
    with ChatServer(script=("500", "echo", "401")) as server:
        with OpenAiChat(options(server, api_key_env="CANARY_KEY")) as chat:
            assert chat.answer([PLAIN]) == ['["Bearer [key]"]']
            with pytest.raises(ValueError) as caught:
                chat.answer([PLAIN])
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    texts = [str(caught.value), repr(caught.value), repr(chat), repr(chat.settings), caplog.text]
    assert not [text for text in texts if KEY in text]


SPELLINGS = {
    "plain": KEY,
    "JSON": KEY.replace("/", "\\/"),
    "JSON numbers": "".join(f"\\u{ord(character):04X}" for character in KEY),
    "JSON in JSON": json.dumps(KEY.replace("/", "\\/"))[1:-1].replace("+", "\\\\u002b"),
    "percent": quote(KEY, safe=""),
    "percent, all": "".join(f"%{ord(character):02x}" for character in KEY),
}


def parts_of_key(text):
    """Returns the parts of six characters of the key that a text still shows."""
    parts = (KEY[start : start + 6] for start in range(len(KEY) - 5))
    return [part for part in parts if part in text]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_cut_leaves_a_part_of_the_key(spelling):
    hidden, key = HiddenKey(KEY), SPELLINGS[spelling]
    # In front of it so much that the key lies at every place around the end of an excerpt.
    for length in range(200 - len(key) - 5, 205):
        text = "x" * length + key + " and more"
        for body in (text, f'{{"error": {{"message": "{text}"}}}}', f'{{"error": "{text}"}}'):
            shown = hidden.excerpt(body)
            assert not parts_of_key(urllib.parse.unquote(shown)), shown
            assert not key.startswith("\\u") or "\\u" not in shown
    # The server itself stops anywhere in the key: less than its first six characters may be left.
    for length in range(1, len(key) + 1):
        shown = hidden.erase("You sent " + key[:length])
        assert not parts_of_key(urllib.parse.unquote(shown).replace("\\/", "/")), shown
        try:
            shown = json.loads(f'"{shown}"')
        except ValueError:
            continue
        assert not parts_of_key(shown), shown


def test_a_failure_shows_no_part_of_the_key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)
    with ChatServer(script=("500 long",)) as server:
        failure = ask(server, api_key_env="CANARY_KEY", max_attempts=1)
    assert isinstance(failure, Failure) and not parts_of_key(failure.reason)
    assert "xBearer [key]'" in failure.reason


def test_what_is_no_key_stays():
    hidden = HiddenKey(KEY)
    for text in ("", "sk-", "A risk-can on a shelf", "a sk-ca", "\\" * 100_000, KEY[1:], KEY[:5]):
        assert hidden.erase(text) == text
    assert hidden.erase(f"a {KEY}, {KEY}.") == "a [key], [key]."
    assert HiddenKey("").erase(KEY) == KEY
    assert HiddenKey("abc").erase("ab abc ab") == "ab [key] ab"


def test_a_long_key_takes_no_time():
    key = "".join(random.Random(0).choices("abcdefghij", k=2000))
    started = time.process_time()
    assert HiddenKey(key).erase("a" * 100_000 + key[:-1]) == "a" * 100_000 + "[key]"
    assert time.process_time() - started < 2


def test_an_address_in_a_message_is_the_host_alone():
    with ChatServer(script=("404",)) as server:
        url = server.url.replace("/v1", f"/{quote(KEY, safe='')}/v1")
        with pytest.raises(ValueError, match="does not know this address") as caught:
            ask(url)
    assert server.url.removesuffix("/v1") in str(caught.value)
    assert not parts_of_key(str(caught.value))


def test_a_server_without_a_key_gets_none():
    with ChatServer() as server:
        ask(server)
    assert "Authorization" not in server.headers[0]


def test_no_more_requests_at_once_than_allowed():
    with ChatServer() as server, OpenAiChat(options(server, num_at_once=3)) as chat:
        server.delay = 0.05
        threads = [threading.Thread(target=chat.answer, args=([PLAIN],)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.calls) == 12
        assert 2 <= server.most_in_flight <= 3


def test_requests_keep_to_their_rate():
    with ChatServer() as server, OpenAiChat(options(server, requests_per_minute=24.0)) as chat:
        # Two at once; the third has to wait for most of its 2.5 seconds.
        thread = threading.Thread(target=chat.answer, args=([PLAIN] * 4,), daemon=True)
        thread.start()
        thread.join(timeout=0.8)
        assert len(server.calls) == 2
    thread.join(timeout=2)


@pytest.mark.parametrize(
    ("max_tokens", "usage", "wait"),
    [
        # Fifty a second and 250 at once; a question counts with its longest answer: 150.
        (140, 0, 1.0),
        # An estimate of 30 for what the server says took 280.
        (20, 280, 1.2),
    ],
)
def test_tokens_keep_to_their_rate_those_that_a_server_counts_too(max_tokens, usage, wait):
    limits = {"tokens_per_minute": 3000.0, "max_tokens": max_tokens}
    with ChatServer() as server, OpenAiChat(options(server, **limits)) as chat:
        server.usage = usage
        started = time.monotonic()
        assert chat.answer([PLAIN] * 2) == [GOOD] * 2
        assert server.times[1] - started >= wait


def test_a_server_that_asks_to_wait_is_left_alone_so_long():
    with ChatServer(script=("429 wait", "")) as server:
        assert ask(server) == GOOD
        assert server.times[1] - server.times[0] >= 0.6


def test_attempts_are_further_and_further_apart(monkeypatch):
    delays = []

    def delay(attempt, base):
        delays.append((attempt, base))
        return 0.3 * attempt

    monkeypatch.setattr(openai_chat, "backoff_delay", delay)
    with ChatServer(script=("500", "reset", "500")) as server:
        failure = ask(server, backoff=0.7)
        first, second, third = server.times
    assert isinstance(failure, Failure)
    # None behind the last one, which nothing follows.
    assert delays == [(1, 0.7), (2, 0.7)]
    assert second - first >= 0.3 and third - second >= 0.6


def test_a_wait_that_one_request_is_told_holds_for_all():
    with ChatServer(script=("429 date",)) as server, OpenAiChat(options(server)) as chat:
        chat._resume_at = time.monotonic() + 0.3
        started = time.monotonic()
        assert chat.answer([PLAIN]) == [GOOD]
        assert time.monotonic() - started > 0.3


def test_leaving_ends_what_is_under_way():
    with ChatServer() as server:
        server.delay = 3.0
        answers = []
        with OpenAiChat(options(server, deadline=60.0)) as chat:
            thread = threading.Thread(target=lambda: answers.extend(chat.answer([PLAIN])))
            thread.start()
            while not server.calls:
                time.sleep(0.01)
        thread.join(timeout=2)
    assert answers == [Failure("The run ended before there was an answer.")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "localhost:8000"}, "expected an address such as"),
        ({"base_url": "ftp://a/v1"}, "expected an address such as"),
        ({"base_url": KEY}, "expected an address such as"),
        ({"base_url": f"https//key:{KEY}@h/v1"}, "expected an address such as"),
        ({"base_url": f"http://{KEY[:9]}\u2100/v1"}, "expected an address such as"),
        ({"base_url": f"http://h:{KEY.partition('/')[0]}/v1"}, "expected an address such as"),
        ({"base_url": f"http://u:{quote(KEY, safe='')}@a/v1"}, "no password"),
        ({"base_url": f"http://a/v1?key={KEY}"}, "no password, query"),
        ({"model": ""}, "model is empty"),
        ({"json_mode": "xml"}, "json_mode is 'xml'"),
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"deadline": 0.0}, "deadline must be above 0"),
        ({"backoff": -1.0}, "backoff must be 0 or more"),
        ({"api_key_env": "NO_SUCH_KEY"}, "variable NO_SUCH_KEY is not set"),
        ({"api_key_env": KEY}, "api_key_env is no name of an environment variable"),
    ],
)
def test_wrong_options_are_one_sentence_without_the_key(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        OpenAiChat(options("http://localhost/v1", **changes))
    assert KEY.partition("/")[0] not in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_bucket_lets_through_its_rate_with_a_burst():
    now = [0.0]
    bucket = TokenBucket(60, clock=lambda: now[0])  # One a second; five at once.
    assert [bucket.reserve(1) for _ in range(7)] == [0, 0, 0, 0, 0, 1, 2]
    now[0] = 100.0
    assert [bucket.reserve(1) for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    now[0] = 200.0
    assert bucket.reserve(65) == 60  # More than it ever holds: on credit.
    bucket.correct(-30)
    assert bucket.reserve(0) == 30
    assert TokenBucket(0).reserve(1e9) == 0


def test_waits_double_with_jitter_up_to_a_minute():
    for attempt, longest in ((1, 0.5), (2, 1.0), (5, 8.0), (50, 60.0)):
        delays = [backoff_delay(attempt, 0.5) for _ in range(50)]
        assert longest / 2 <= min(delays) < max(delays) <= longest
        assert len(set(delays)) > 40


def test_retry_after_is_seconds_or_a_date():
    in_a_minute = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    assert parse_retry_after("3") == 3
    assert parse_retry_after(" 0.5 ") == 0.5
    assert 55 < parse_retry_after(email.utils.format_datetime(in_a_minute, usegmt=True)) <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for text in (None, "", "soon", "-3", "nan", "inf", "9" * 30, "Wed, 99 Oct 99999", "\u0663"):
        assert parse_retry_after(text) is None
