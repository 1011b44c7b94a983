"""Rewrites captions of mirrored or turned images with a language model at any OpenAI-compatible endpoint.

1. The model gets the caption, the change of the image, and the object's box before and after (:class:`ByModel`).
2. Its reply must hold for the new boxes and keep what the caption says: only directions may change. Where the rules of
   `optisar_yolo.language` can rewrite the caption, they define the new directions; a place may also be worded otherwise
   if the box proves it (:func:`departures`). A refused reply goes back to the model with the reason.
3. Requests go through the `openai` library, which waits and repeats after HTTP 429, 500 and time-outs
   (:class:`Client`). Replies are kept on disk, so that a run that was killed pays for none of them twice
   (:class:`ReplyCache`).

The key is read from the environment variable OPENAI_API_KEY and goes nowhere else: not into the cache, a manifest, a
log line or the text of an error.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from optisar_yolo.construction.copies import RewrittenCaption, Task, by_rules, conflicts, mirror
from optisar_yolo.construction.steps import unwritable
from optisar_yolo.data import DataError
from optisar_yolo.language import PLACE, SUPERLATIVE, Vocabulary, clean, parse, read_place, rotate180
from optisar_yolo.utils import Journal, fingerprint


class Reply(NamedTuple):
    """A model's reply, and the tokens that it cost."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class ReplyCache:
    """Replies by the hash of the request, in a journal on disk; threads may share it. Use it in a ``with``.

    Raises:
        DataError: The file cannot be made, or is something else.
    """

    FINGERPRINT = "replies of language models"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        if path.is_file() and path.stat().st_size and not Journal.belongs(path, self.FINGERPRINT):
            raise DataError(f"{path}: no file of a model's replies; if it is damaged, delete the file")
        with unwritable("the model's replies cannot be stored", path):
            self._journal = Journal(path, self.FINGERPRINT)
        self._replies = {entry["key"]: Reply(*entry["reply"]) for entry in self._journal}

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def get(self, key: str) -> Reply | None:
        """Return the reply stored under a key, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Store a reply; when this returns, a kill of the process does not lose it.

        Raises:
            DataError: The disk is full or cannot be written.
        """
        with self._lock, unwritable("the model's replies cannot be stored", self.path):
            self._journal.add({"key": key, "reply": reply})
            self._replies[key] = reply


Message = dict[str, str]
HOPELESS = 20
"""Failed requests in a row after which the run stops."""
_REMEDIES = {
    400: "check model=",
    401: "OPENAI_API_KEY is not accepted there",
    403: "OPENAI_API_KEY is not accepted there",
    404: "check llm_url= (it usually ends with /v1) and model=",
    429: "the endpoint's limit or the account's credit is used up; try later or with fewer jobs=",
}


class NoReplyError(Exception):
    """A request without a reply; the message gives the reason."""


class Client:
    """Sends requests to one model, keeps its replies, and counts. Threads may share it.

    Args:
        cache: Replies of this and earlier runs.
        model: The model's name at the endpoint.
        url: The endpoint, such as "http://localhost:11434/v1"; empty: OPENAI_BASE_URL, or OpenAI itself.
        timeout: Seconds to wait for one reply.
        retries: Number of times that the library repeats a request that failed.
        max_requests: Number of requests after which no more are sent; 0: no limit.

    Attributes:
        counts: "requests", "failed requests", "answers from the cache", and "prompt tokens" and "completion tokens" of
            all replies used, whichever run paid for them.

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
        self._api = openai.OpenAI(api_key=key or "none", base_url=url or None, timeout=timeout, max_retries=retries)

    def reply(self, messages: list[Message]) -> str:
        """Return the model's reply to a conversation of messages, each with "role" and "content".

        Raises:
            NoReplyError: The endpoint gave none after all repetitions, or the limit of requests is reached.
            DataError: The last `HOPELESS` requests all failed, or the reply cannot be stored.
        """
        key = fingerprint(self._model, messages)
        reply = self._cache.get(key)
        cached = reply is not None
        if reply is None:
            reply = self._request(messages)
            self._cache.put(key, reply)
        with self._lock:
            if cached:
                self.counts["answers from the cache"] += 1
            self.counts["prompt tokens"] += reply.prompt_tokens
            self.counts["completion tokens"] += reply.completion_tokens
        return reply.text

    def _request(self, messages: list[Message]) -> Reply:
        with self._lock:
            if self._limit and self.counts["requests"] >= self._limit:
                raise NoReplyError("the limit of requests is reached")
            self.counts["requests"] += 1
        try:
            completion: Any = self._api.chat.completions.create(model=self._model, messages=messages)
            text = completion.choices[0].message.content or ""
        except self._errors as error:
            status = getattr(error, "status_code", None)
            # The server's message may repeat the key, so only the kind of the error is reported.
            what = f"HTTP {status}" if status else type(error).__name__
            self._failed(what, _REMEDIES.get(status or 0, "check llm_url= and whether the endpoint runs"))
            raise NoReplyError(f"the endpoint gave no reply ({what})") from None
        except (AttributeError, IndexError, TypeError):
            self._failed("no chat completion", _REMEDIES[404])
            raise NoReplyError("the endpoint gave no chat completion") from None
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
                "The replies so far are kept: repeat the command to go on"
            ) from None

    def check(self) -> None:
        """Check that at least one request got a reply, if there were any.

        Raises:
            DataError: Every request of this run failed.
        """
        if self.counts["requests"] and self.counts["failed requests"] == self.counts["requests"]:
            raise DataError(
                f"the model's endpoint replied to none of {self.counts['requests']} requests; "
                "check llm_url=, model= and OPENAI_API_KEY"
            )


def _number(value: object) -> int:
    """Return a count of tokens, 0 where the endpoint gave none that can be used."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0


FALLBACKS = ("drop", "rules")
"""What to do with a caption that the model did not rewrite: drop it, or use the rules."""
INSTRUCTION = (
    "You rewrite captions of objects in remote-sensing images. An image was mirrored or turned; rewrite the caption "
    "so that it is true of the same object in the changed image. Change words of direction only (left, right, top, "
    "bottom, upper, lower, above, below, leftmost ...) and keep every other word. Boxes are [x1, y1, x2, y2] in "
    'pixels, x to the right and y down. Answer with JSON only: {"caption": "..."}'
)
DONE = {"hflip": "mirrored left to right", "vflip": "mirrored top to bottom", "rot180": "turned by 180 degrees"}
Place = tuple[str | None, str | None]  # column and row
ECHO = 500  # characters of a refused reply that go back to the model


class ByModel:
    """Rewrites captions with a language model.

    Args:
        client: Sends the requests.
        tries: Number of requests for a caption.
        fallback: One of `FALLBACKS`.
    """

    def __init__(self, client: Client, tries: int = 3, fallback: str = "drop") -> None:
        self.client = client
        self.tries = tries
        self.fallback = fallback

    def __call__(self, task: Task) -> RewrittenCaption:
        """Rewrite one caption; one without any direction needs no request.

        Raises:
            DataError: The model's endpoint never replies, or the replies cannot be stored.
        """
        ruled = mirror(task.caption, task.transform, task.before.vocabulary)
        if ruled == task.caption:
            return by_rules(task)
        messages = [_message("system", INSTRUCTION), _message("user", _request_for(task))]
        clashes = unreadable = replies = 0
        reason = ""
        while replies < self.tries:
            try:
                raw = self.client.reply(messages)
            except NoReplyError as error:
                reason = str(error)
                break
            replies += 1
            try:
                text = read_reply(raw, task.caption)
            except ValueError as error:
                unreadable += 1
                reason = str(error)
            else:
                wrong = conflicts(text, task.index, task.after) or departures(text, ruled, task)
                if not wrong:
                    return RewrittenCaption(text, clashes, unreadable, replies)
                clashes += 1
                reason = "; ".join(wrong)
            again = f"That answer cannot be used. {reason}. Answer again, with JSON only."
            messages += [_message("assistant", raw[:ECHO]), _message("user", again)]
        if self.fallback == "rules":
            ruling = by_rules(task)
            return replace(ruling, conflicts=ruling.conflicts + clashes, unreadable=unreadable)
        return RewrittenCaption(None, clashes, unreadable, replies, reason)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _request_for(task: Task) -> str:
    """Return the request for a caption, as JSON."""
    content = {
        "caption": task.caption,
        "category": task.before.vocabulary.noun_of(task.before.names[task.index]),
        "image": {"width": task.size[0], "height": task.size[1]},
        "change": DONE[task.transform],
        "old_box": [round(v, 1) for v in task.before.boxes[task.index].tolist()],
        "new_box": [round(v, 1) for v in task.after.boxes[task.index].tolist()],
    }
    return json.dumps(content, ensure_ascii=False)


def read_reply(raw: str, old: str) -> str:
    """Return the caption in a model's reply; text around the JSON object (code fences) is ignored.

    Raises:
        ValueError: No JSON object, no text under "caption", or a text far longer than the old caption.
    """
    try:
        content = json.loads(raw[raw.index("{") : raw.rindex("}") + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError("It is not a JSON object") from error
    if not isinstance(content, dict) or "caption" not in content:
        raise ValueError('The JSON object has no key "caption"')
    try:
        text = clean(content["caption"])
    except ValueError as error:
        raise ValueError("The caption is empty or not a text") from error
    if len(text) > 2 * len(old) + 40:
        raise ValueError("The caption is far longer than the old one")
    return text


def departures(text: str, ruled: str | None, task: Task) -> list[str]:
    """Return, in words, the differences of a rewritten caption that are more than the change of the image demands.

    Args:
        text: The model's caption.
        ruled: The old caption as the rules rewrite it; None where they cannot.
        task: The old caption and its object.
    """
    words = task.before.vocabulary
    if ruled is None:
        if text == task.caption:
            return ["the caption was not changed"]
        same = parse(text, words).category == parse(task.caption, words).category
        return [] if same else ["category: it must name the same kind of object"]
    got, want = parse(text, words), parse(ruled, words)
    wrong = [
        f"{key}: it must keep what the old caption says"
        for key in ("category", "modality", "size", "reference")
        if getattr(got, key) != getattr(want, key)
    ]
    wrong += [
        f"{key}: it must become what '{ruled}' says"
        for key in ("superlative", "relation", "offset")
        if getattr(got, key) != getattr(want, key)
    ]
    proved = got.place is not None and task.after.claims(text, task.index).get("place") is True
    if got.place != want.place and not (want.place and proved):
        wrong.append(f"place: it must become what '{ruled}' says")
    elif _other_directions(text, words) != _other_directions(ruled, words):
        wrong.append(f"direction: each must become what '{ruled}' says")
    if other := set(got.rest) ^ set(want.rest):
        wrong.append(f"words: {', '.join(sorted(other))} must be as in '{ruled}'")
    return wrong


def _other_directions(text: str, vocabulary: Vocabulary) -> tuple[list[Place], list[str]]:
    """Return the places in a caption except the object's own, and the words of direction that `parse` does not read.

    Such words are in relations to things without boxes ("to the left of the road") and in "facing left".
    """
    text = vocabulary.hide(text).text
    places = [place for m in PLACE.finditer(text) if (place := read_place(m))]
    own = parse(text).place
    if own in places:
        places.remove(own)
    left = SUPERLATIVE.sub(" ", PLACE.sub(lambda m: " " if read_place(m) else m[0], text))
    return places, [w for w in re.findall(r"[\w'-]+", left.lower()) if rotate180(w) != w]
