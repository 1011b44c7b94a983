"""The page of ``optisar dataset review``: one object at a time, its image beside its text, keys for everything.

Built with NiceGUI, which brings its own scripts: nothing is loaded from the network. Text of a source is shown as text;
no element of this page takes HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
from fastapi import Response
from nicegui import app, ui
from nicegui.element import Element
from nicegui.events import KeyEventArguments

from optisar_yolo.construction.image_files import FLIP
from optisar_yolo.construction.review.decisions import (
    Decision,
    DecisionLog,
    Queue,
    cleaned,
    correction,
    is_box,
    next_open,
    resolved,
)
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.data import DataError, modality_of, read_image

STYLE = Path(__file__).with_name("page.css")
EVERY_KIND = ""
DONE = {"accept": "accepted", "correct": "corrected", "reject": "rejected"}
LEAVE = "document.activeElement.blur()"  # keys work again where no field has the focus


class BoxImage(Element, component="boxes.js"):  # type: ignore[call-arg]
    """An image with boxes, one of which can be dragged; emits "change" with the new box."""

    def show(self, **props: Any) -> None:
        """Show another image, other boxes, or both; the script names and explains the properties."""
        self._props.update(props)
        self.update()

    def reset(self) -> None:
        """Take back a drag that could not be recorded."""
        self.run_method("reset")


class Page:
    """One reviewer's view of the queue. It holds the place in the queue; the decisions are in the log.

    Args:
        queue: The objects to review.
        log: Records the decisions, and has those of earlier sessions.
        names: Category names of the data set.
        by: Name of the reviewer, for the log.
    """

    def __init__(self, queue: Queue, log: DecisionLog, names: tuple[str, ...], by: str = "") -> None:
        self.queue, self.log, self.names, self.by = queue, log, names, by
        self.positions = queue.positions()
        self.ids = queue.ids
        self.index = next_open(self.ids, log.last, 0) or 0
        self.zoom = False
        self._build()
        self.refresh()

    def load(self) -> tuple[Sample, Instance, Instance]:
        """Return the image in view, and its object before and after the decision about it; a rejected one stays."""
        sample, place = self.queue.load(self.positions[self.index])
        found = sample.instances[place]
        return sample, found, resolved(found, self.log.last.get(found.id)) or found

    def decide(self, decision: Decision, move: bool = True) -> None:
        """Record a decision about the object in view, and go on to the next open one if `move`."""
        try:
            self.log.add(decision)
        except OSError as error:
            ui.notify(f"Not recorded: {self.log.path}: {error.strerror or error}", type="negative", timeout=0)
            self.image.reset()
            return
        if move:
            following = next_open(self.ids, self.log.last, self.index + 1)
            if following is None:
                ui.notify("All of these are decided", type="positive")
            else:
                self.index = following
        self.refresh()

    def accept(self) -> None:
        """Accept the object as it is, with its corrections where it has been corrected."""
        _, found, _ = self.load()
        last = self.log.last.get(found.id)
        self.decide(last if last and last.action == "correct" else Decision(found.id, "accept", by=self.by))

    def reject(self) -> None:
        """Reject the object."""
        self.decide(Decision(self.load()[1].id, "reject", by=self.by))

    def correct(self, **changes: Any) -> None:
        """Record a change of the object's box, captions or category, and stay."""
        sample, found, now = self.load()
        self.decide(correction(found, replace(now, **changes), self.by), move=False)

    def undo(self) -> None:
        """Open the object in view again, or, where it is open, go back to the last decided one and open that."""
        id = self.ids[self.index]
        if id not in self.log.last:
            shown = set(self.ids)
            id = next((i for i in reversed(self.log.last) if i in shown), "")
            if not id:
                ui.notify("Nothing to undo")
                return
            self.index = self.ids.index(id)
        self.decide(Decision(id, "open", by=self.by), move=False)

    def go(self, step: int) -> None:
        """Go forward or back by so many objects, decided or not."""
        self.index = min(max(self.index + step, 0), len(self.ids) - 1)
        self.refresh()

    def filter(self, kind: str) -> None:
        """Show only objects with this kind of flag; `EVERY_KIND` shows all."""
        self.positions = self.queue.positions(kind)
        self.ids = [self.queue.ids[p] for p in self.positions]
        self.index = next_open(self.ids, self.log.last, 0) or 0
        self.refresh()

    def refresh(self) -> None:
        """Show the object in view."""
        sample, found, now = self.load()
        last = self.log.last.get(found.id)
        others = [resolved(i, self.log.last.get(i.id)) for i in sample.instances if i.id != found.id]
        done = sum(i in self.log.last for i in self.ids)
        self.image.show(
            src=f"/picture/{self.positions[self.index]}",
            file=sample.path,
            width=sample.width,
            height=sample.height,
            box=list(now.box) if is_box(now.box) else None,
            others=[list(i.box) for i in others if i is not None and is_box(i.box)],
            rejected=bool(last and last.action == "reject"),
            zoom=self.zoom,
        )
        self.progress.set_value(done / len(self.ids))
        self.count.set_text(f"{done} of {len(self.ids)} done")
        self.place.set_text(f"{self.index + 1} / {len(self.ids)}")
        self.state.set_text(DONE[last.action] if last else "open")
        self.state.classes(replace=f"review-state {last.action if last else 'open'}")
        self.name.set_text(found.id)
        self.flags.clear()
        with self.flags:
            for flag in found.flags or ["no flags"]:
                ui.label(flag).classes("review-flag" if found.flags else "review-quiet")
        self.captions.set_value("\n".join(now.captions))
        self.category.set_options(self._categories(sample, now.category), value=now.category)

    def _categories(self, sample: Sample, present: str) -> list[str]:
        """Return the categories that an image's objects can have."""
        names = [n for n in self.names if modality_of(n) in (sample.modality, None)]
        return names if present in names else [present, *names]

    def _build(self) -> None:
        """Lay out the page."""
        ui.add_css(STYLE)
        ui.keyboard(self._key, repeating=False, ignore=["input", "select", "textarea"])
        with ui.element("main").classes("review"):
            self.image = BoxImage()
            self.image.on("change", self._dragged)
            with ui.element("aside").classes("review-side"):
                with ui.row().classes("review-line"):
                    self.count = ui.label().classes("review-count")
                    self.place = ui.label().classes("review-quiet")
                self.progress = ui.linear_progress(show_value=False).props("rounded instant-feedback")
                if self.queue.kinds:
                    kinds = {EVERY_KIND: f"all ({len(self.queue)})"} | {
                        k: f"{k} ({n})" for k, n in self.queue.kinds.most_common()
                    }
                    choice = ui.select(kinds, value=EVERY_KIND, label="Flags", on_change=lambda e: self.filter(e.value))
                    choice.props("dense outlined options-dense").classes("review-wide")
                    choice.on("popup-hide", self._leave)
                with ui.row().classes("review-line"):
                    self.state = ui.label()
                    self.name = ui.label().classes("review-name")
                self.flags = ui.element("div").classes("review-flags")
                self.captions = ui.textarea("Expressions, one a line").classes("review-wide review-captions")
                self.captions.props("outlined autogrow dense")
                self.captions.on("blur", self._captions_left)
                self.captions.on("keydown.enter.exact.prevent", self._leave)
                self.captions.on("keydown.esc", self._captions_dropped)
                self.category = ui.select([], label="Category", on_change=self._category_chosen)
                self.category.props("dense outlined options-dense").classes("review-wide review-category")
                self.category.on("popup-hide", self._leave)
                with ui.element("div").classes("review-buttons"):
                    for text, key, action, style in (
                        ("Accept", "A", self.accept, "accept"),
                        ("Reject", "R", self.reject, "reject"),
                        ("Previous", "←", lambda: self.go(-1), ""),
                        ("Next", "→", lambda: self.go(1), ""),
                        ("Edit text", "E", self._edit, ""),
                        ("Category", "C", self._choose, ""),
                        ("Undo", "U", self.undo, ""),
                        ("Zoom", "Z", self._zoom, ""),
                    ):
                        self._button(text, key, action, style)
                ui.label("Drag on the image to draw the box anew, drag a corner to move it.").classes("review-quiet")

    def _button(self, text: str, key: str, action: Callable[[], None], style: str) -> None:
        """Add a button that shows its key."""
        button = ui.element("button").classes(f"review-button {style}")
        button.on("click", lambda: action())  # without the event
        with button:
            ui.label(text)
            ui.label(key).classes("review-key")

    def _key(self, event: KeyEventArguments) -> None:
        held = event.modifiers
        if not event.action.keydown or held.ctrl or held.alt or held.meta:  # Ctrl-R reloads, it rejects nothing
            return
        actions = {
            "a": self.accept,
            "r": self.reject,
            "e": self._edit,
            "c": self._choose,
            "u": self.undo,
            "z": self._zoom,
            "arrowleft": lambda: self.go(-1),
            "arrowright": lambda: self.go(1),
        }
        if action := actions.get(event.key.name.lower()):
            action()

    def _dragged(self, event: Any) -> None:
        if is_box(event.args):
            self.correct(box=tuple(float(v) for v in event.args))

    def _captions_left(self) -> None:
        lines = cleaned((self.captions.value or "").split("\n"))
        if lines != self.load()[2].captions:
            self.correct(captions=lines)

    def _captions_dropped(self) -> None:
        self.captions.set_value("\n".join(self.load()[2].captions))
        self._leave()

    def _category_chosen(self, event: Any) -> None:
        if event.value and event.value != self.load()[2].category:
            self.correct(category=event.value)

    def _edit(self) -> None:
        self.captions.run_method("focus")

    def _choose(self) -> None:
        self.category.run_method("showPopup")

    def _zoom(self) -> None:
        self.zoom = not self.zoom
        self.refresh()

    def _leave(self) -> None:
        ui.run_javascript(LEAVE)


LONGEST = 2048  # pixels of an image's longer side as it is sent; larger ones are reduced


def serve(queue: Queue, log: DecisionLog, names: tuple[str, ...], by: str, host: str, port: int, browser: bool) -> None:
    """Serve the page for the objects of a queue, at least one, until the process is interrupted."""

    @ui.page("/", title="Review")
    def index() -> None:
        Page(queue, log, names, by)

    @app.get("/picture/{position}")
    def image(position: int) -> Response:
        try:
            sample, _ = queue.load(position)
            content = encoded(sample.path, sample.transform)
        except (IndexError, DataError) as error:
            return Response(str(error), status_code=404, media_type="text/plain")
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    ui.run(host=host, port=port, title="Review", reload=False, show=browser, show_welcome_message=False)


@lru_cache(maxsize=8)
def encoded(path: str, transform: str) -> bytes:
    """Return an image, changed as `Sample.transform` says, as JPEG; its longer side has at most `LONGEST` pixels.

    Raises:
        DataError: The file cannot be read.
    """
    image = read_image(path)
    if transform:
        image = cv2.flip(image, FLIP[transform])
    scale = LONGEST / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
