"""Captions for an image that was mirrored or turned, rewritten by a language model and checked against the boxes.

The model is told the old caption, what was done to the image, and the object's box before and after. What it answers
must hold for the new boxes, and must say what the old caption says: only directions may change. Where the rules of
`optisar_yolo.language` can read and rewrite the caption, they tell what the directions are to be; a place may also be
said otherwise as long as the box proves it. A refused answer goes back to the model with what is wrong with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from optisar_yolo.construction.transforms.llm import Client, Message, NoAnswerError
from optisar_yolo.construction.transforms.rewrite import RewrittenCaption, Task, by_rules, mirror
from optisar_yolo.construction.transforms.verify import conflicts
from optisar_yolo.language import EXTREME, PLACE, clean, noun_of, parse, read_place, rotate180

FALLBACKS = ("drop", "rules")
"""What becomes of a caption that the model did not rewrite in the tries it had."""
INSTRUCTION = (
    "You rewrite captions of objects in remote-sensing images. An image was mirrored or turned; rewrite the caption "
    "so that it is true of the same object in the changed image. Change words of direction only (left, right, top, "
    "bottom, upper, lower, above, below, leftmost ...) and keep every other word. Boxes are [x1, y1, x2, y2] in "
    'pixels, x to the right and y down. Answer with JSON only: {"caption": "..."}'
)
DONE = {"hflip": "mirrored left to right", "vflip": "mirrored top to bottom", "rot180": "turned by 180 degrees"}
Place = tuple[str | None, str | None]  # column and row
ECHO = 500  # characters of a refused answer that go back to the model


class ByModel:
    """Rewrites captions with a language model.

    Args:
        client: Asks the model.
        tries: How often a caption may be asked for.
        fallback: One of `FALLBACKS`.
    """

    def __init__(self, client: Client, tries: int = 3, fallback: str = "drop") -> None:
        self.client = client
        self.tries = tries
        self.fallback = fallback

    def __call__(self, task: Task) -> RewrittenCaption:
        """Rewrite one caption; the model is not asked for one without any direction in it.

        Raises:
            DataError: The model's endpoint answers nothing at all, or the answers cannot be stored.
        """
        ruled = mirror(task.caption, task.transform)
        if ruled == task.caption:
            return by_rules(task)
        messages = [_message("system", INSTRUCTION), _message("user", _question(task))]
        clashes = unreadable = asked = 0
        reason = ""
        while asked < self.tries:
            try:
                raw = self.client.ground(messages)
            except NoAnswerError as error:
                reason = str(error)
                break
            asked += 1
            try:
                text = read_answer(raw, task.caption)
            except ValueError as error:
                unreadable += 1
                reason = str(error)
            else:
                wrong = conflicts(text, task.index, task.after) or departures(text, ruled, task)
                if not wrong:
                    return RewrittenCaption(text, clashes, unreadable, asked)
                clashes += 1
                reason = "; ".join(wrong)
            again = f"That answer cannot be used. {reason}. Answer again, with JSON only."
            messages += [_message("assistant", raw[:ECHO]), _message("user", again)]
        if self.fallback == "rules":
            ruling = by_rules(task)
            return replace(ruling, conflicts=ruling.conflicts + clashes, unreadable=unreadable)
        return RewrittenCaption(None, clashes, unreadable, asked, reason)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _question(task: Task) -> str:
    """Return what the model is asked, as JSON."""
    content = {
        "caption": task.caption,
        "category": noun_of(task.before.names[task.index]),
        "picture": {"width": task.size[0], "height": task.size[1]},
        "change": DONE[task.transform],
        "old_box": [round(v, 1) for v in task.before.boxes[task.index].tolist()],
        "new_box": [round(v, 1) for v in task.after.boxes[task.index].tolist()],
    }
    return json.dumps(content, ensure_ascii=False)


def read_answer(raw: str, old: str) -> str:
    """Return the caption in a model's answer.

    Args:
        raw: What the model wrote; text around the JSON object (code fences) is ignored.
        old: The caption that it was asked to rewrite.

    Raises:
        ValueError: No JSON object, no text under "caption", or a text far longer than the old one.
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
    """Return, in words, where a rewritten caption says something else than the old one.

    Args:
        text: The model's caption.
        ruled: The old caption as the rules rewrite it, None where they cannot.
        task: The old caption and its object.
    """
    if ruled is None:
        if text == task.caption:
            return ["the caption was not changed"]
        same = parse(text).category == parse(task.caption).category
        return [] if same else ["category: it must name the same kind of object"]
    got, want = parse(text), parse(ruled)
    wrong = [
        f"{key}: it must keep what the old caption says"
        for key in ("category", "modality", "size", "reference")
        if getattr(got, key) != getattr(want, key)
    ]
    wrong += [
        f"{key}: it must become what '{ruled}' says"
        for key in ("extreme", "relation", "offset")
        if getattr(got, key) != getattr(want, key)
    ]
    proved = got.place is not None and task.after.claims(text, task.index).get("place") is True
    if got.place != want.place and not (want.place and proved):
        wrong.append(f"place: it must become what '{ruled}' says")
    elif _other_directions(text) != _other_directions(ruled):
        wrong.append(f"direction: each must become what '{ruled}' says")
    if other := set(got.rest) ^ set(want.rest):
        wrong.append(f"words: {', '.join(sorted(other))} must be as in '{ruled}'")
    return wrong


def _other_directions(text: str) -> tuple[list[Place], list[str]]:
    """Return the places in a caption but the object's own, and the words of direction that `parse` may not have read.

    The latter stand in relations to things that have no boxes ("to the left of the road") and in "facing left".
    """
    places = [place for m in PLACE.finditer(text) if (place := read_place(m))]
    own = parse(text).place
    if own in places:
        places.remove(own)
    left = EXTREME.sub(" ", PLACE.sub(lambda m: " " if read_place(m) else m[0], text))
    return places, [w for w in re.findall(r"[\w'-]+", left.lower()) if rotate180(w) != w]
