"""The pipeline against a server that misbehaves: nothing lost, nothing asked twice, no key kept."""

import collections
import hashlib
import json
import logging

import pytest
from caption_files import make_config, read_lines, run, write_input
from chat_server import KEY, TRANSPORT, ChatServer

from uniovseg_jax.captions import preparation
from uniovseg_jax.captions.chat.openai_chat import OpenAiChat

ATTEMPTS = 5
# Faults that are more to a refiner than to a parser.
REFINING = ("length", "language", "sorry")


def check_run(tmp_path, capfd, caplog, received, count):
    """Runs `count` records, two calls each, at 30 % faults, and again; returns what came out."""
    caplog.set_level(logging.DEBUG)
    write_input(tmp_path / "in", count)
    with ChatServer(share=0.3) as server:
        config = make_config(
            tmp_path / "in", "refiner=openai_compatible,parser=llm", server, max_failed=0.2
        )
        for stage in (config.refiner, config.parser):
            # Long enough for a good answer on a busy machine: only slow drips take longer.
            stage.deadline = 2.0
            stage.update(api_key_env="CANARY_KEY", max_attempts=ATTEMPTS, num_at_once=16)
        manifest, num_calls = run(config, tmp_path / "out", tmp_path / "cache.sqlite")
        calls = list(server.calls)
        assert num_calls >= len(calls) >= 2 * count

        # Every record is resolved, or in the dead-letter file with a reason.
        good, failed = read_lines(tmp_path / "out"), read_lines(tmp_path / "out", "failed.jsonl")
        ids = [record["id"] for record in good + failed]
        assert sorted(ids) == sorted(f"{number}.jpg" for number in range(count))
        assert [record["id"] for record in good] == sorted(
            (record["id"] for record in good), key=lambda name: int(name[:-4])
        )
        assert (manifest.num_records, manifest.failed) == (len(good), len(failed))
        assert all(record["entities"] and record["caption"] for record in good)
        assert all(record["meta"]["error"] for record in failed)

        # No question is asked too often, and none again that was answered.
        asked = collections.defaultdict(list)
        for digest, fault in calls:
            asked[digest].append(fault)
        assert max(map(len, asked.values())) <= ATTEMPTS
        answered = set(received)
        assert len(received) == len(answered) and answered <= set(asked)
        assert all(asked[digest][-1] not in TRANSPORT for digest in answered)

        # The finished folder costs nothing; a new one only what has no useful answer.
        assert run(config, tmp_path / "out", tmp_path / "cache.sqlite") == (manifest, 0)
        useless = {digest for record in failed for digest in useless_questions(server, record)}
        server.share = 0
        again, num_again = run(config, tmp_path / "new", tmp_path / "cache.sqlite")
        repeated = {digest for digest, _ in server.calls[len(calls) :]} & set(asked)
        assert repeated == (set(asked) - answered) | useless
        assert (again.num_records, again.failed) == (count, 0)

    # The key was sent, was repeated by the server, and is nowhere.
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    out, err = capfd.readouterr()
    texts = [out, err, caplog.text, repr(config)]
    texts += [str(record.__dict__) for record in caplog.records]
    assert not [text for text in texts if KEY in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "cache.sqlite" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert any(b"[key]" in path.read_bytes() for path in files)
    return {
        "calls": len(calls),
        "faults": collections.Counter(fault for _, fault in calls if fault),
        "records": len(good),
        "failed": collections.Counter(json.dumps(r["meta"]["error"])[:60] for r in failed),
        "calls of the second run": 0,
        "calls with a new folder": num_again,
    }


def useless_questions(server, record):
    """Returns digests of first questions about a failed record to which no answer was of use."""
    stage, _, reason = record["meta"]["error"].partition(": ")
    if not reason.startswith("Both answers"):
        return set()
    mark = record["caption_raw"][0]
    return {
        digest
        for (digest, _), body in zip(server.calls, server.bodies, strict=True)
        if len(body["messages"]) == 2
        and isinstance(body["messages"][1]["content"], list) == (stage == "refine")
        and mark in str(body["messages"][1]["content"])
    }


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CANARY_KEY", KEY)


@pytest.fixture
def received(monkeypatch):
    """Digests of the questions that the client took an answer to, as it sees it."""
    digests, attempt = [], OpenAiChat._attempt

    async def recorded(self, content, *arguments):
        answer = await attempt(self, content, *arguments)
        if isinstance(answer, str):
            digests.append(hashlib.sha256(content).hexdigest())
        return answer

    monkeypatch.setattr(OpenAiChat, "_attempt", recorded)
    return digests


def test_two_hundred_calls_at_thirty_percent_faults(tmp_path, capfd, caplog, received):
    check_run(tmp_path, capfd, caplog, received, 100)


@pytest.mark.slow
def test_two_thousand_calls_at_thirty_percent_faults(tmp_path, capfd, caplog, received):
    figures = check_run(tmp_path, capfd, caplog, received, 1000)
    with capfd.disabled():
        print(f"\n{figures}")


def test_a_refused_key_ends_the_run_at_once(tmp_path):
    write_input(tmp_path / "in", 50)
    with ChatServer(share=1, faults=("401",)) as server:
        config = make_config(tmp_path / "in", "parser=llm", server)
        config.parser.api_key_env = "CANARY_KEY"
        with pytest.raises(ValueError, match="does not accept the key.*\\[key\\]") as caught:
            run(config, tmp_path / "out")
        assert KEY not in str(caught.value)
        assert len(server.calls) <= 2 * config.parser.num_at_once


def test_too_many_failures_stop_the_run_which_goes_on_later(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "_EARLY", 40)
    write_input(tmp_path / "in", 60)
    with ChatServer(share=1, faults=("500",)) as server:
        config = make_config(tmp_path / "in", "parser=llm", server, output__records_per_shard=20)
        config.parser.max_attempts = 1
        with pytest.raises(ValueError, match="40 of 40 records failed, more than max_failed"):
            run(config, tmp_path / "out")
        assert len(read_lines(tmp_path / "out", "failed.jsonl")) == 40
        server.share = 0
        manifest, _ = run(config, tmp_path / "out")
        assert (manifest.num_records, manifest.failed) == (60, 0)
        assert not read_lines(tmp_path / "out", "failed.jsonl")


@pytest.mark.parametrize("fault", ["truncated", "length", "language", "sorry", "words", "500"])
def test_another_run_asks_for_what_failed_and_nothing_else(tmp_path, fault):
    write_input(tmp_path / "in", 20)
    # Some records fail, some need their second chance.
    options = "refiner=openai_compatible" if fault in REFINING else "parser=llm"
    with ChatServer(share=0.6, faults=(fault,), seed=1) as server:
        config = make_config(tmp_path / "in", options, server, max_failed=0.9)
        stage = config.refiner if options.startswith("refiner") else config.parser
        stage.max_attempts = 1
        manifest, num_calls = run(config, tmp_path / "out")
        assert num_calls >= 20 and 0 < manifest.failed < 20
        assert run(config, tmp_path / "out") == (manifest, 0)
        server.share = 0
        again, num_again = run(config, tmp_path / "new", tmp_path / "out.answers.sqlite")
        assert (again.num_records, again.failed, num_again) == (20, 0, manifest.failed)
        assert run(config, tmp_path / "third", tmp_path / "out.answers.sqlite")[1] == 0


def test_failed_records_are_a_source_of_their_own(tmp_path):
    write_input(tmp_path / "in", 20)
    with ChatServer(share=0.5, faults=("words",), seed=3) as server:
        config = make_config(tmp_path / "in", "parser=llm", server, max_failed=0.9)
        manifest, _ = run(config, tmp_path / "out")
        assert manifest.failed > 0
        config.source.path = f"{tmp_path}/out/failed.jsonl"
        config.parser.grounded = False
        server.share = 0
        again, _ = run(config, tmp_path / "rest")
        assert (again.num_records, again.failed) == (manifest.failed, 0)
