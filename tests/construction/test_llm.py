"""Rewriting by a language model, against a real HTTP server that misbehaves in every way that is known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, Raw, completion, right
from hand_samples import begin, image, instance, recipe, run

from optisar_yolo.construction.copies import expand
from optisar_yolo.construction.rewrite_llm import (
    HOPELESS,
    ByModel,
    Client,
    NoReplyError,
    Reply,
    ReplyCache,
    read_reply,
)
from optisar_yolo.construction.samples import Sample, SampleFile
from optisar_yolo.data.config import DataError

KEY = "sk-secret-0123456789abcdef"
UPPER_LEFT, LOWER_RIGHT = [10.0, 10.0, 50.0, 40.0], [540.0, 250.0, 590.0, 290.0]
OLD, NEW = "The white ship in the upper left corner", "The white ship in the upper right corner"
GOOD = json.dumps({"caption": NEW})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "cache.jsonl") as kept:
        yield kept


def ship(name: str = "p", caption: str = OLD) -> Sample:
    return image(
        name,
        instance(f"{name}#0", UPPER_LEFT, "optical ship", caption),
        instance(f"{name}#1", LOWER_RIGHT, "optical ship"),
    )


def rewritten(client: Client, sample: Sample | None = None, **how: Any) -> tuple[list[str], dict[str, int]]:
    """Mirror an image; return its first object's captions and what was counted."""
    outcome = expand(sample or ship(), ["hflip"], ByModel(client, **how), replace_lost=False)
    captions = outcome.samples[1].instances[0].captions if len(outcome.samples) > 1 else []
    return captions, {k: v for k, v in outcome.counts.items() if v}


UNREADABLE: dict[str, str | None] = {
    "prose": "Sure! The white ship is now in the upper right corner.",
    "half": '{"caption": "The white sh',
    "wrong JSON": "{'caption': 'The white ship in the upper right corner'}",
    "wrong keys": json.dumps({"text": NEW}),
    "a list": json.dumps([NEW]),
    "a number": json.dumps({"caption": 7}),
    "empty": "",
    "no text": json.dumps({"caption": " \u200b"}),
    "null": None,
    "too long": json.dumps({"caption": NEW + " of a very large image" * 20}),
    "too deep": '{"caption": ' * 100_000 + "}" * 100_000,
    "half a surrogate": "\ud83d {",
}
CONFLICTS = {
    "not changed": OLD,
    "the other axis": "The white ship in the lower left corner",
    "no place left": "The white ship",
    "another kind": "The white harbor in the upper right corner",
    "a colour less": "The ship in the upper right corner",
    "a colour more": "The white red ship in the upper right corner",
    "a size more": "The small white ship in the upper right corner",
    "a claim more": "The rightmost white ship in the upper right corner",
    "a second place": "The white ship in the upper right corner on the left",
    "an unread direction": "The white ship in the upper right corner facing northwest",
}


@pytest.mark.parametrize("bad", [pytest.param(v, id=k) for k, v in UNREADABLE.items()])
def test_an_answer_without_a_caption_is_asked_for_again(bad: str | None, cache: ReplyCache) -> None:
    with FakeEndpoint(lambda messages, number: bad if number == 1 else GOOD) as endpoint:
        captions, counts = rewritten(Client(cache, "m", endpoint.url))
    assert captions == [NEW] and counts["answers that hold no caption"] == counts["captions regenerated"] == 1
    assert len(endpoint.asked) == 2 and len(json.loads(endpoint.asked[1])) == 4


@pytest.mark.parametrize("bad", [pytest.param(v, id=k) for k, v in CONFLICTS.items()])
def test_an_answer_in_conflict_is_asked_for_again_with_the_conflict_named(bad: str, cache: ReplyCache) -> None:
    with FakeEndpoint(lambda messages, number: json.dumps({"caption": bad}) if number == 1 else GOOD) as endpoint:
        captions, counts = rewritten(Client(cache, "m", endpoint.url))
    assert captions == [NEW] and counts["conflicts found"] == counts["captions regenerated"] == 1
    said = json.loads(endpoint.asked[1])[-1]["content"]
    assert said.startswith("That answer cannot be used. ") and ": " in said


def test_another_true_place_is_taken_and_a_relation_must_turn(cache: ReplyCache) -> None:
    with FakeEndpoint(lambda *_: '```json\n{"caption": "The white ship at the top right"}\n```') as endpoint:
        assert rewritten(Client(cache, "m", endpoint.url))[0] == ["The white ship at the top right"]
    beside = ship("q", "The white ship to the left of the small road")  # boxes know no road
    same = json.dumps({"caption": "The white ship to the left of the small road"})
    with FakeEndpoint(lambda messages, number: same if number == 1 else right(messages)) as endpoint:
        captions, counts = rewritten(Client(cache, "m", endpoint.url), beside)
    assert captions == ["The white ship to the right of the small road"] and counts["conflicts found"] == 1


def test_after_all_tries_the_caption_is_dropped_or_left_to_the_rules(cache: ReplyCache) -> None:
    with FakeEndpoint(lambda *_: "no") as endpoint:
        client = Client(cache, "m", endpoint.url)
        captions, counts = rewritten(client, tries=3)
        assert captions == [] and counts["captions dropped"] == 1 and counts["answers that hold no caption"] == 3
        assert len(endpoint.asked) == 3 and client.counts["requests"] == 3
        captions, counts = rewritten(client, tries=3, fallback="rules")
        assert captions == [NEW] and "captions regenerated" not in counts
        assert len(endpoint.asked) == 3 and client.counts["answers from the cache"] == 3


def test_a_caption_without_a_direction_is_not_asked_for(cache: ReplyCache) -> None:
    with FakeEndpoint() as endpoint:
        captions, counts = rewritten(Client(cache, "m", endpoint.url), ship("p", "A white ship"))
    assert captions == ["A white ship"] and not endpoint.asked


@pytest.mark.parametrize(
    "bad",
    [
        Raw(429, b'{"error": {"message": "slow down"}}'),
        Raw(500, b"oops", "text/plain"),
        Raw(0),
        Raw(200, b"", wait=1.5),
    ],
    ids=["429", "500", "closed", "slow"],
)
def test_the_library_repeats_what_failed(bad: Raw, cache: ReplyCache) -> None:
    with FakeEndpoint(lambda messages, number: bad if number == 1 else GOOD) as endpoint:
        client = Client(cache, "m", endpoint.url, timeout=0.7, retries=1)
        captions, _ = rewritten(client)
    assert captions == [NEW] and len(endpoint.asked) == 2
    assert client.counts["requests"] == 1 and not client.counts["failed requests"]


@pytest.mark.parametrize(
    "bad",
    [
        Raw(429),
        Raw(500, b"{"),
        Raw(400, b'{"error": "what?"}'),
        Raw(0),
        Raw(200, b"<html>Welcome</html>", "text/html"),
        Raw(200, b"{ no json"),
        Raw(200, b"{}"),
        Raw(200, b'{"choices": []}'),
        Raw(200, b'{"choices": null}'),
        Raw(200, b'{"choices": [{"message": null}]}'),
        Raw(200, b"[1, 2]"),
        Raw(200, b"null"),
        Raw(200, b"\xff\xfe", "application/json"),
        Raw(200, b"[" * 100_000),
    ],
)
def test_one_failure_drops_one_caption_and_the_run_goes_on(bad: Raw, cache: ReplyCache) -> None:
    def behave(messages: list[dict[str, str]], number: int) -> str | Raw:
        return bad if "black" in messages[1]["content"] else right(messages)

    with FakeEndpoint(behave) as endpoint:
        client = Client(cache, "m", endpoint.url, retries=0)
        captions, counts = rewritten(client, ship("q", "The black ship in the upper left corner"))
        assert captions == [] and counts["captions dropped"] == 1 and client.counts["failed requests"] == 1
        assert rewritten(client)[0] == [NEW]
        client.check()


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": "many"}, {"prompt_tokens": -5, "completion_tokens": 1e99}])
def test_odd_token_counts_do_no_harm(usage: Any, cache: ReplyCache) -> None:
    body = json.dumps(json.loads(completion(GOOD)) | {"usage": usage}).encode()
    with FakeEndpoint(lambda *_: Raw(body=body)) as endpoint:
        client = Client(cache, "m", endpoint.url)
        assert rewritten(client)[0] == [NEW]
    assert client.counts["prompt tokens"] == client.counts["completion tokens"] == 0


def ships(count: int) -> list[Sample]:
    harbors = [
        image(f"h{k}", *(instance(f"h{k}#{n}", LOWER_RIGHT, "optical harbor") for n in range(4))) for k in range(count)
    ]
    return harbors + [ship(f"own/{k}.jpg", f"The ship {k} in the upper left corner") for k in range(count)]


def settings(endpoint: FakeEndpoint, **more: Any) -> dict[str, Any]:
    return {"rewrite": "llm", "llm_url": endpoint.url, "retries": 0, "target": 10_000} | more


def contents(folder: Path) -> bytes:
    return b"".join(f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file())


def test_the_command_tells_tokens_and_cost_and_keeps_the_key_to_itself(tmp_path: Path) -> None:
    begin(tmp_path, ships(3), recipe(), step="clean")
    with FakeEndpoint(lambda messages, number: KEY if number == 1 else right(messages)) as endpoint:
        run("transform", tmp_path, **settings(endpoint, price_in=2.0, price_out=10.0, dry_run=True))
        assert not endpoint.asked and not (tmp_path / "transform").exists()
        run("transform", tmp_path, **settings(endpoint, price_in=2.0, price_out=10.0))
    assert endpoint.keys == {f"Bearer {KEY}"}
    report = json.loads((tmp_path / "transform" / "report.json").read_text())
    assert report["counts"]["requests"] == len(endpoint.asked) == 10  # three copies of three ships, one asked twice
    assert report["counts"]["prompt tokens"] == 1000 and report["cost"] == round((1000 * 2 + 100 * 10) / 1e6, 4)
    assert report["percent"]["captions regenerated"] == round(100 / 9, 2)
    assert KEY.encode() not in contents(tmp_path) and endpoint.url.encode() not in contents(tmp_path / "transform")
    copies = [s for s in SampleFile(tmp_path / "transform" / "samples.jsonl") if s.transform == "hflip"]
    assert "The ship 0 in the upper right corner" in [c for s in copies for i in s.instances for c in i.captions]


@pytest.mark.parametrize("count", [1, 10])
def test_an_endpoint_that_refuses_everything_stops_the_run(
    count: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, ships(count), recipe(), step="clean")
    echo = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    with FakeEndpoint(lambda *_: Raw(401, echo)) as endpoint, pytest.raises(DataError) as error:
        run("transform", tmp_path, **settings(endpoint, jobs=1))
    assert len(endpoint.asked) == (3 if count == 1 else HOPELESS)
    assert "OPENAI_API_KEY" in str(error.value) and KEY not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    assert [f.name for f in (tmp_path / "transform").iterdir()] == ["llm-cache.jsonl"]
    assert KEY.encode() not in contents(tmp_path) and KEY not in "".join(capfd.readouterr())


def test_no_more_requests_than_allowed(tmp_path: Path) -> None:
    begin(tmp_path, ships(4), recipe(), step="clean")
    with FakeEndpoint() as endpoint:
        run("transform", tmp_path, **settings(endpoint, max_requests=5, jobs=3))
        assert len(endpoint.asked) == 5
        run("transform", tmp_path, **settings(endpoint, max_requests=5, jobs=3))  # up to date
        assert len(endpoint.asked) == 5
        run("transform", tmp_path, **settings(endpoint, fallback="rules"))
        assert len(endpoint.asked) == len(set(endpoint.asked)) == 12


def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    begin(tmp_path, ships(4), recipe(), step="clean")
    stuck = Raw(wait=60.0)
    killed = False
    with FakeEndpoint(lambda messages, n: stuck if n > 5 and not killed else right(messages)) as endpoint:
        words = [f"{k}={v}" for k, v in settings(endpoint, jobs=1, work=tmp_path).items()]
        command = [sys.executable, "-m", "optisar_yolo", "dataset", "transform", *words]
        child = subprocess.Popen(command, env=os.environ | {"OPTISAR_TRACEBACK": "1"})
        try:
            limit = time.monotonic() + 100
            while len(endpoint.asked) < 6 and child.poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert len(endpoint.asked) == 6 and not (tmp_path / "transform" / "samples.jsonl").exists()
        killed = True
        run("transform", tmp_path, **settings(endpoint, jobs=1))
        counts = json.loads((tmp_path / "transform" / "report.json").read_text())["counts"]
        assert len(endpoint.answered) == len(set(endpoint.answered)) == 12
        assert counts["answers from the cache"] == 5 and counts["requests"] == 7
        assert counts["prompt tokens"] == 1200  # the earlier run's answers have their price too
    assert len({s.name for s in SampleFile(tmp_path / "transform" / "samples.jsonl")}) == 8 * 4


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cache.jsonl"
    file.write_bytes(b"no journal at all" * 100)
    with pytest.raises(DataError, match=r"cache\.jsonl.*delete the file"):
        ReplyCache(file)
    with pytest.raises(DataError, match="cannot be stored"):
        ReplyCache(file / "below")


def test_answers_are_kept_between_clients(tmp_path: Path) -> None:
    for turn in range(2):
        with ReplyCache(tmp_path / "c.jsonl") as kept:
            assert kept.get("a") == (Reply("é", 1, 2) if turn else None)
            kept.put("a", Reply("é", 1, 2))


def test_what_is_missing_is_named(cache: ReplyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("localhost:8000", "ftp://x/v1", "http://"):
        with pytest.raises(DataError, match="llm_url"):
            Client(cache, "m", url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u20ac")
    with pytest.raises(DataError, match="OPENAI_API_KEY"):
        Client(cache, "m")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(DataError, match="OPENAI_API_KEY"):
        Client(cache, "m")
    with FakeEndpoint() as endpoint:  # a local endpoint needs none
        assert rewritten(Client(cache, "m", endpoint.url))[0] == [NEW]
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(DataError, match=r"optisar-yolo\[build\]"):
        Client(cache, "m", "http://127.0.0.1:1/v1")


def test_an_endpoint_that_is_not_there(cache: ReplyCache) -> None:
    client = Client(cache, "m", "http://127.0.0.1:9/v1", retries=0)
    for _ in range(HOPELESS - 1):
        with pytest.raises(NoReplyError, match="APIConnectionError"):
            client.reply([{"role": "user", "content": "hello"}])
    with pytest.raises(DataError, match="llm_url"):
        client.reply([{"role": "user", "content": "hello"}])


def test_an_answer_in_a_code_fence_is_read() -> None:
    assert read_reply(f"Here you are:\n```json\n{GOOD}\n```", OLD) == NEW
