"""Any server that speaks OpenAI's chat protocol: hosted models, vLLM, SGLang, llama.cpp, Ollama."""

import asyncio
import base64
import concurrent.futures
import importlib
import json
import threading
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from uniovseg_jax.captions.chat.hidden_key import HiddenKey
from uniovseg_jax.captions.chat.question import LIST_SCHEMA, Failure, Question
from uniovseg_jax.captions.chat.rate import TokenBucket, backoff_delay, parse_retry_after
from uniovseg_jax.captions.chat.server_options import (
    ServerOptions,
    check_options,
    read_key,
    server_name,
)
from uniovseg_jax.captions.descriptions import whole_sentences
from uniovseg_jax.captions.images import small_jpeg
from uniovseg_jax.captions.record import clean_text

# Of a whole reply, in bytes; answers have some hundreds.
_MAX_REPLY = 1 << 20
# A server that asks for a longer wait, in seconds, is taken to have failed.
_MAX_WAIT = 600.0
_CHARACTERS_PER_TOKEN = 4
_PIXELS_PER_TOKEN = 750
_ENDED = "The run ended before there was an answer."
_RETRIED = (408, 409, 425, 429)
# The same for every question: there is no use in going on.
_FATAL = {401: "does not accept the key", 403: "forbids this", 404: "does not know this address"}


class OpenAiChat:
    """Asks a server; use as a context, which ends what is under way.

    The key is sent to the server and goes nowhere else. Where the server repeats it, it is cut out.
    """

    name = "openai_compatible"
    batch_size = 1

    def __init__(self, options: ServerOptions):
        """Prepares to ask; nothing is sent yet.

        Raises:
          ValueError: If an option makes no sense, the variable of the key is not set, or httpx is
            not installed.
        """
        check_options(options)
        self._options = options
        self.model, self.num_at_once = options.model, options.num_at_once
        self.settings = {
            "temperature": 0,
            "max_tokens": options.max_tokens,
            "image_side": options.image_side,
            "json_mode": options.json_mode,
        }
        self._key = read_key(options.api_key_env)
        self._hidden = HiddenKey(self._key)
        self._httpx = _import_httpx()
        self._requests = TokenBucket(options.requests_per_minute)
        self._tokens = TokenBucket(options.tokens_per_minute)
        self._places = asyncio.Semaphore(options.num_at_once)
        self._resume_at = 0.0
        self._fatal: str | None = None
        self._closed = False
        self.num_calls = 0
        self._client: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> "OpenAiChat":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def answer(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Asks one question after the other; see `Chat`."""
        return [self._answer(question) for question in questions]

    def forget(self, questions: Sequence[Question]) -> None:
        """Does nothing: answers are kept by `CachedChat` alone."""

    def request(self, question: Question) -> tuple[dict[str, Any], int]:
        """Returns the body of the request, and an estimate of the tokens that go in.

        Raises:
          ValueError: If the image cannot be read.
        """
        tokens = sum(len(text) for _, text in question.turns) // _CHARACTERS_PER_TOKEN + 1
        messages: list[dict[str, Any]] = [
            {"role": role, "content": text} for role, text in question.turns
        ]
        if question.read_image is not None:
            jpeg, height, width = small_jpeg(question.read_image(), self._options.image_side)
            tokens += height * width // _PIXELS_PER_TOKEN
            url = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            first = next(message for message in messages if message["role"] == "user")
            image = {"type": "image_url", "image_url": {"url": url}}
            first["content"] = [image, {"type": "text", "text": first["content"]}]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self._options.max_tokens,
        }
        if question.wants_list and self._options.json_mode == "schema":
            schema = {"name": "entities", "schema": LIST_SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif question.wants_list and self._options.json_mode == "object":
            body["response_format"] = {"type": "json_object"}
        return body, tokens

    def _answer(self, question: Question) -> str | Failure:
        try:
            body, tokens = self.request(question)
        except ValueError as error:
            return Failure(str(error))
        if self._fatal:
            raise ValueError(self._fatal)
        if self._closed:
            return Failure(_ENDED)
        try:
            work = self._ask(body, tokens, question.wants_list)
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (concurrent.futures.CancelledError, asyncio.CancelledError):
            return Failure(_ENDED)

    async def _ask(self, body: dict[str, Any], tokens: int, is_list: bool) -> str | Failure:
        """Makes attempt after attempt until there is an answer."""
        content, problem = json.dumps(body).encode(), ""
        # Made in the thread that uses it, and before any time counts: it loads certificates.
        if self._client is None:
            self._client = self._httpx.AsyncClient(
                timeout=self._options.deadline,
                limits=self._httpx.Limits(max_connections=self._options.num_at_once),
            )
        for attempt in range(1, self._options.max_attempts + 1):
            wait = self._requests.reserve(1)
            wait = max(wait, self._tokens.reserve(tokens + self._options.max_tokens))
            await asyncio.sleep(wait)
            # Another request may have been told to wait meanwhile; then all of them do.
            while (wait := self._resume_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if self._fatal:
                raise ValueError(self._fatal)
            try:
                # Waiting for a free place takes no time of the attempt.
                async with self._places:
                    return await self._attempt(content, tokens, is_list)
            except _AttemptFailed as failed:
                problem, wait = failed.reason, failed.wait
            if wait is not None and wait > _MAX_WAIT:
                return Failure(f"{problem} It asks to wait for {wait:.0f} seconds.")
            if wait is not None:
                self._resume_at = max(self._resume_at, time.monotonic() + wait)
            if attempt < self._options.max_attempts:
                await asyncio.sleep(backoff_delay(attempt, self._options.backoff))
        return Failure(f"{problem} Given up after {self._options.max_attempts} attempts.")

    async def _attempt(self, content: bytes, tokens: int, is_list: bool) -> str | Failure:
        """Sends one request.

        Raises:
          _AttemptFailed: If another attempt may have more luck.
          ValueError: If no question will ever be answered.
        """
        self.num_calls += 1
        try:
            # A timeout of httpx begins anew with every byte; this one does not.
            async with asyncio.timeout(self._options.deadline):
                status, headers, reply = await self._post(content)
        except TimeoutError:
            raise _AttemptFailed(
                f"The server did not answer within {self._options.deadline:g} seconds."
            ) from None
        # LocalProtocolError and its like would quote headers; their kind says enough.
        except self._httpx.HTTPError as error:
            raise _AttemptFailed(
                f"The connection to the server failed ({type(error).__name__})."
            ) from None
        text = reply.decode("utf-8", "replace")
        if status == 200:
            answer, is_cut, used = _read_reply(text, self._hidden)
            self._tokens.correct(used - tokens - self._options.max_tokens if used else 0)
            # Lists are repaired by who asked for them; half a sentence would pass for a whole one.
            if isinstance(answer, str) and is_cut and not is_list:
                answer = whole_sentences(answer) or Failure(
                    "The answer was cut off before its first sentence ended; set max_tokens, "
                    f"which is {self._options.max_tokens}, higher."
                )
            return answer
        detail = f"The server answered with status {status}: {self._hidden.excerpt(text)}."
        if status in _RETRIED or status >= 500:
            raise _AttemptFailed(detail, parse_retry_after(headers.get("retry-after")))
        if status in _FATAL:
            self._fatal = f"{server_name(self._options)} {_FATAL[status]}. {detail}"
            raise ValueError(self._fatal)
        if "response_format" in text:
            detail += " It may not know JSON schemas: set json_mode to object or none."
        return Failure(detail)

    async def _post(self, content: bytes) -> tuple[int, Any, bytes]:
        # Compressed replies could grow without limit while they are unpacked.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._options.base_url.rstrip('/')}/chat/completions"
        async with self._client.stream("POST", url, content=content, headers=headers) as response:
            parts, size = [], 0
            async for part in response.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > _MAX_REPLY:
                    raise _AttemptFailed(f"The server's answer has more than {_MAX_REPLY} bytes.")
            return response.status_code, response.headers, b"".join(parts)

    async def _close(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()


class _AttemptFailed(Exception):
    """Another attempt may have more luck, after `wait` seconds if the server said so."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.reason, self.wait = reason, wait


def _read_reply(text: str, hidden: HiddenKey) -> tuple[str | Failure, bool, int]:
    """Returns the answer in a reply, whether it was cut off, and the server's tokens or 0."""
    try:
        document = json.loads(text)
        choice = document["choices"][0]
        message = choice["message"]
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        excerpt = hidden.excerpt(text)
        raise _AttemptFailed(f"The server's answer is no chat reply: {excerpt}.") from None
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        excerpt = hidden.excerpt(str(message.get("refusal") or content))
        return Failure(f"The model refuses: {excerpt}."), False, 0
    if not isinstance(content, str) or not content.strip():
        raise _AttemptFailed("The server's answer is empty.")
    usage = document.get("usage")
    used = usage.get("total_tokens") if isinstance(usage, dict) else 0
    is_cut = choice.get("finish_reason") == "length"
    return clean_text(hidden.erase(content)), is_cut, used if type(used) is int else 0


def _import_httpx() -> Any:
    try:
        return importlib.import_module("httpx")
    except ImportError:
        _need_httpx()


def _need_httpx() -> NoReturn:
    raise ValueError("Asking a server needs httpx; install it (pip install httpx).") from None
