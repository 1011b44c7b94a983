"""Asks a language model at any OpenAI-compatible endpoint, through the `openai` library.

The key is read from the environment variable OPENAI_API_KEY and goes nowhere else: not into the cache, a manifest, a
log line or the text of an error. Waiting and repeating after HTTP 429, 500 and time-outs is the library's work.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from optisar_yolo.construction.transforms.llm_cache import Reply, ReplyCache
from optisar_yolo.data import DataError

Message = dict[str, str]
HOPELESS = 20
"""Failed requests in a row after which an endpoint is given up."""
_REMEDIES = {
    400: "check model=",
    401: "OPENAI_API_KEY is not accepted there",
    403: "OPENAI_API_KEY is not accepted there",
    404: "check llm_url= (it usually ends with /v1) and model=",
    429: "the endpoint's limit or the account's credit is used up; try later or with fewer jobs=",
}


class NoAnswerError(Exception):
    """A question that stays without an answer; the message says why."""


class Client:
    """Asks one model, keeps what it answered, and counts. Threads may share it.

    Args:
        cache: Answers of this and earlier runs.
        model: The model's name at the endpoint.
        url: The endpoint, such as "http://localhost:11434/v1"; empty: OPENAI_BASE_URL, or OpenAI itself.
        timeout: Seconds to wait for one answer.
        retries: How often the library repeats a request that failed.
        max_requests: Requests after which nothing more is asked; 0: no limit.

    Attributes:
        counts: "requests", "failed requests", "answers from the cache", and "prompt tokens" and "completion tokens" of
            all answers used, whenever they were paid for.

    Raises:
        DataError: The library is not installed, there is no key, or the address is none.
    """

    def __init__(
        self,
        cache: ReplyCache,
        model: str,
        url: str = "",
        timeout: float = 60.0,
        retries: int = 5,
        max_requests: int = 0,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise DataError("rewrite=llm needs openai: pip install 'optisar-yolo[build]'") from error
        url = url or os.environ.get("OPENAI_BASE_URL", "")
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and not url:
            raise DataError("rewrite=llm: set the environment variable OPENAI_API_KEY, or llm_url= to a local endpoint")
        if not key.isascii() or not key.isprintable():
            raise DataError("OPENAI_API_KEY holds characters that no key has; set it again")
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise DataError("llm_url: expected an address such as http://localhost:11434/v1")
        self.counts: Counter[str] = Counter()
        self._cache, self._model, self._key, self._limit = cache, model, key, max_requests
        self._lock = Lock()
        self._in_a_row = 0
        self._errors = (openai.OpenAIError, ValueError, RecursionError)  # the latter two: a body that is no JSON
        # Local endpoints want no key, the library wants one.
        self._api = openai.OpenAI(
            api_key=key or "none", base_url=url or None, timeout=timeout, max_retries=max(retries, 0)
        )

    def ground(self, messages: list[Message]) -> str:
        """Return the model's answer, whatever it is.

        Args:
            messages: The conversation so far, each with "role" and "content".

        Raises:
            NoAnswerError: The endpoint gave none after all repetitions, or the limit of requests is reached.
            DataError: The last `HOPELESS` requests all failed, or the answer cannot be stored.
        """
        question = json.dumps([self._model, messages])
        key = hashlib.sha256(question.encode()).hexdigest()
        reply = self._cache.get(key)
        if reply is not None:
            self._count("answers from the cache")
        else:
            reply = self._request(messages)
            self._cache.put(key, reply)
        with self._lock:
            self.counts["prompt tokens"] += reply.prompt_tokens
            self.counts["completion tokens"] += reply.completion_tokens
        return reply.text

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _request(self, messages: list[Message]) -> Reply:
        with self._lock:
            if self._limit and self.counts["requests"] >= self._limit:
                raise NoAnswerError("the limit of requests is reached")
            self.counts["requests"] += 1
        try:
            completion: Any = self._api.chat.completions.create(model=self._model, messages=messages)
            text = completion.choices[0].message.content or ""
        except self._errors as error:
            status = getattr(error, "status_code", None)
            # The server's own words may repeat the key: only the kind of the error is told.
            what = f"HTTP {status}" if status else type(error).__name__
            self._failed(what, _REMEDIES.get(status or 0, "check llm_url= and whether the endpoint runs"))
            raise NoAnswerError(f"the endpoint gave no answer ({what})") from None
        except (AttributeError, IndexError, TypeError):
            self._failed("no chat completion", _REMEDIES[404])
            raise NoAnswerError("the endpoint gave no chat completion") from None
        with self._lock:
            self._in_a_row = 0
        if not isinstance(text, str):
            text = ""
        if self._key:
            text = text.replace(self._key, "***")
        usage = getattr(completion, "usage", None)
        tokens = (_number(getattr(usage, name, 0)) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(text.encode("utf-8", "replace").decode(), *tokens)  # half a surrogate pair could not be stored

    def _failed(self, what: str, remedy: str) -> None:
        with self._lock:
            self.counts["failed requests"] += 1
            self._in_a_row += 1
            hopeless = self._in_a_row >= HOPELESS
        if hopeless:
            raise DataError(
                f"the model's endpoint failed {HOPELESS} times in a row (last: {what}); {remedy}. "
                "What was answered so far is kept: repeat the command to go on"
            ) from None

    def check(self) -> None:
        """Complain where requests were made and not one was answered.

        Raises:
            DataError: Every request of this run failed.
        """
        if self.counts["requests"] and self.counts["failed requests"] == self.counts["requests"]:
            raise DataError(
                f"the model's endpoint answered none of {self.counts['requests']} requests; "
                "check llm_url=, model= and OPENAI_API_KEY"
            )


def _number(value: object) -> int:
    """Return a count of tokens as far as the endpoint told one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0
