"""How to reach a server of OpenAI's protocol, and where its key is."""

import dataclasses
import os
import re
import urllib.parse


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """Where the server is and how to treat it.

    Attributes:
      base_url: Up to and without `/chat/completions`, such as `http://localhost:8000/v1`.
      model: Its name there.
      api_key_env: Environment variable that holds the key; empty for servers without one.
      max_tokens: Longest answer.
      image_side: Images are scaled down to so many pixels a side.
      json_mode: How lists are asked for: `schema`, `object`, or `none` for servers without either.
      requests_per_minute: 0 for no limit.
      tokens_per_minute: Of questions and answers, as we estimate them; 0 for no limit.
      num_at_once: Requests at the same time.
      deadline: Of one attempt, from the first byte sent to the last one received, in seconds.
      max_attempts: Before a question is given up.
      backoff: Longest wait after the first failed attempt, in seconds; doubled each time.
    """

    base_url: str
    model: str
    api_key_env: str
    max_tokens: int
    image_side: int
    json_mode: str
    requests_per_minute: float
    tokens_per_minute: float
    num_at_once: int
    deadline: float
    max_attempts: int
    backoff: float


def check_options(options: ServerOptions) -> None:
    """Makes sure that options can be meant.

    Raises:
      ValueError: If one cannot; one sentence, which repeats nothing that may be a key.
    """
    parts = _split_address(options.base_url)
    if parts is None:
        # It may be the key itself, so it is not repeated.
        raise ValueError(
            "base_url is not shown here, as it may hold a key; expected an address such as "
            "http://localhost:8000/v1."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "base_url must hold no password, query or fragment: a key belongs into the "
            "environment variable that api_key_env names."
        )
    if not options.model:
        raise ValueError("model is empty; expected the name of a model of the server.")
    if options.json_mode not in ("schema", "object", "none"):
        raise ValueError(f"json_mode is {options.json_mode!r}, expected schema, object or none.")
    for name in ("max_tokens", "image_side", "num_at_once", "max_attempts"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(options, name)}.")
    for name in ("requests_per_minute", "tokens_per_minute", "backoff"):
        if not 0 <= getattr(options, name) < float("inf"):
            raise ValueError(f"{name} must be 0 or more, got {getattr(options, name)}.")
    if not 0 < options.deadline < float("inf"):
        raise ValueError(f"deadline must be above 0 seconds, got {options.deadline}.")


def server_name(options: ServerOptions) -> str:
    """Returns the scheme and host of a checked address; its path may hold anything."""
    parts = urllib.parse.urlsplit(options.base_url)
    return f"{parts.scheme}://{parts.netloc}"


def read_key(variable: str) -> str:
    """Returns the key in an environment variable; empty if no variable is named.

    Raises:
      ValueError: If the name is none, or the variable is not set or holds no key.
    """
    if not variable:
        return ""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", variable):
        # It may be the key itself, so it is not repeated.
        raise ValueError("api_key_env is no name of an environment variable, such as MY_API_KEY.")
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"The environment variable {variable} is not set; it has to hold the key.")
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"The environment variable {variable} holds no key: odd characters.")
    return key


def _split_address(text: str) -> urllib.parse.SplitResult | None:
    try:
        parts = urllib.parse.urlsplit(text)
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    # For odd brackets, letters or ports; its message quotes them.
    except ValueError:
        return None
    return parts if is_good else None
