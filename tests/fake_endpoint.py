"""A real HTTP server on this machine that answers like an OpenAI-compatible endpoint, or misbehaves as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from optisar_yolo.construction.copies import mirror
from optisar_yolo.construction.rewrite_llm import DONE

TOKENS = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
QUICK = {"retry-after-ms": "1"}  # the library waits as long as this says before it repeats


class Raw(NamedTuple):
    """An HTTP response as it is to be sent; status 0 closes the connection without one."""

    status: int = 200
    body: bytes = b"{}"
    kind: str = "application/json"
    wait: float = 0.0


class FakeEndpoint:
    """The server.

    Args:
        behave: From the conversation and the running number of the request to what the model says, or to the raw
            response; by default `right`.
    """

    def __init__(self, behave: Callable[[list[dict[str, str]], int], str | None | Raw] | None = None) -> None:
        self.behave = behave or (lambda messages, number: right(messages))
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.keys: set[str | None] = set()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = json.dumps(content["messages"])
                with endpoint._lock:
                    endpoint.asked.append(question)
                    number = len(endpoint.asked)
                    endpoint.keys.add(self.headers["Authorization"])
                said = endpoint.behave(content["messages"], number)
                raw = said if isinstance(said, Raw) else Raw(body=completion(said))
                time.sleep(raw.wait)
                if raw.status == 0:
                    self.close_connection = True
                    return
                try:
                    self.send_response(raw.status)
                    for name, value in {"Content-Type": raw.kind, "Content-Length": len(raw.body), **QUICK}.items():
                        self.send_header(name, str(value))
                    self.end_headers()
                    self.wfile.write(raw.body)
                except OSError:
                    return  # the client has gone
                if raw.status == 200:
                    with endpoint._lock:
                        endpoint.answered.append(question)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> FakeEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def completion(content: str | None) -> bytes:
    """Return the body of a chat completion."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": TOKENS}
    return json.dumps(body).encode()


def right(messages: list[dict[str, str]]) -> str:
    """Answer as a good model does."""
    task = json.loads(messages[1]["content"])
    transform = next(t for t, words in DONE.items() if words == task["change"])
    return json.dumps({"caption": mirror(task["caption"], transform)})
