"""A server on loopback that speaks OpenAI's chat protocol, and misbehaves on purpose.

What it answers depends on the question alone; what goes wrong, on the question and on how often it
was asked. Good answers to questions with an image are descriptions, to others JSON of entities.
"""

import contextlib
import email.utils
import hashlib
import http.server
import json
import random
import re
import socket
import struct
import threading
import time

from uniovseg_jax.captions.parse import parse_rules

KEY = "sk-canary/7f3a+9b"
# Gone wrong on the way: the same question has another chance.
TRANSPORT = ("429", "429 date", "500", "503", "reset", "drip", "html", "broken", "no reply", "huge")
# A proper reply with a useless answer: it is asked for once more, with the reason.
CONTENT = ("truncated", "length", "language", "spanish", "words", "sorry", "echo")


class ChatServer:
    """Use as a context.

    Attributes:
      calls: Of every request: digest of its body, and what went wrong or "".
      bodies: Of every request.
      times: When each came in, of the monotonic clock.
      usage: Tokens that every reply says it took; 0 for none that counts.
    """

    def __init__(self, share=0.0, faults=(*TRANSPORT, *CONTENT), seed=0, script=()):
        """Sets what goes wrong.

        Args:
          share: Of the requests.
          faults: That are drawn from.
          seed: Of the draw.
          script: Instead: faults of the first requests, in their order; "" for none.
        """
        self.share, self.faults, self.seed, self.script = share, faults, seed, list(script)
        self.calls, self.bodies, self.headers, self.times = [], [], [], []
        self.usage = 50
        self.in_flight, self.most_in_flight, self.delay = 0, 0, 0.0
        self._lock = threading.Lock()
        self._asked = {}
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def draw(self, body):
        """Counts a request and returns what shall go wrong with it."""
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            count = self._asked[digest] = self._asked.get(digest, 0) + 1
            draw = random.Random(f"{self.seed}:{digest}:{count}")
            fault = draw.choice(self.faults) if draw.random() < self.share else ""
            if self.script:
                fault = self.script.pop(0)
            self.calls.append((digest, fault))
            self.bodies.append(json.loads(body))
            self.times.append(time.monotonic())
            return fault


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Says nothing: clients that go away are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ChatServer

    def log_message(self, *_):
        pass

    def do_POST(self):
        owner = self.owner
        body = self.rfile.read(int(self.headers["Content-Length"]))
        owner.headers.append(dict(self.headers))
        fault = owner.draw(body)
        owner.in_flight += 1
        owner.most_in_flight = max(owner.most_in_flight, owner.in_flight)
        time.sleep(owner.delay)
        with contextlib.suppress(OSError):
            self._answer(fault, json.loads(body))
        owner.in_flight -= 1

    def _answer(self, fault, question):
        key = self.headers.get("Authorization", "")
        if fault == "500 long":
            self._send(500, _escaped({"error": {"message": "x" * 175 + key}}))
        elif fault in (
            "400",
            "401",
            "404",
            "429",
            "429 date",
            "429 long",
            "429 wait",
            "500",
            "503",
        ):
            waits = {"429": "0.01", "429 long": "86400", "429 wait": "0.6"}
            if fault == "429 date":
                waits[fault] = email.utils.formatdate(time.time(), usegmt=True)
            error = {"error": {"message": f"No. You sent {key}; response_format is odd."}}
            self._send(int(fault[:3]), _escaped(error), waits.get(fault))
        elif fault == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
        elif fault in ("drip", "drip head"):
            start = b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 9999\r\n\r\n" * (fault == "drip"))
            self.wfile.write(start)
            for _ in range(200):
                self.wfile.write(b"X: y\r\n" if fault == "drip head" else b" ")
                time.sleep(0.05)
            self.close_connection = True
        elif fault == "html":
            self._send(200, "<html><body>Please log in</body></html>")
        elif fault == "broken":
            self._send(200, '{"choices": [{"message": {"con')
        elif fault == "no reply":
            self._send(200, json.dumps({"choices": [{"message": {"content": ""}}]}))
        elif fault == "huge":
            self._send(200, " " * (1 << 22))
        elif fault == "refusal":
            message = {"content": None, "refusal": "I cannot help with that."}
            self._send(200, json.dumps({"choices": [{"message": message}]}))
        else:
            content = answer(question)
            content = {
                "truncated": content[: len(content) // 2] if content[:1] == "{" else "{",
                "length": content[: len(content) // 2],
                "length later": f"{content} And half of anoth",
                "spanish": "Un perro marr\u00f3n est\u00e1 sentado en el sof\u00e1 de la sala.",
                "sorry": "I'm sorry, but I can't assist with that request.",
                "language": "\u4e00\u4e2a\u7ea2\u7403\u5728\u8349\u5730\u4e0a",
                "words": "Of course! Here is what I see.",
                "echo": f'["{key}"]',
            }.get(fault, content)
            reason = "length" if fault.startswith("length") else "stop"
            message = {"role": "assistant", "content": content}
            reply = {
                "choices": [{"message": message, "finish_reason": reason}],
                "usage": {"total_tokens": self.owner.usage},
            }
            self._send(200, _escaped(reply))

    def _send(self, status, text, retry_after=None):
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)


def _escaped(document):
    """Returns JSON that spells some characters of the key in another way."""
    return json.dumps(document).replace("/", "\\/").replace("+", "\\u002b")


def answer(question):
    """Returns the good answer to a question."""
    first = next(turn["content"] for turn in question["messages"] if turn["role"] == "user")
    has_image = isinstance(first, list)
    text = first[1]["text"] if has_image else first
    caption = re.fullmatch(r"<caption>\n(.*)\n</caption>", text, re.DOTALL)[1]
    if has_image:
        return f"{caption.strip()} with a small shadow."
    return json.dumps({"entities": parse_rules(caption)})
