"""The browser app: upload an image, type expressions, see boxes, confidences and score maps. It needs no network."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import gradio as gr
import numpy as np

from optisar_yolo.engine import facts_lines, shrink_note
from optisar_yolo.serve.grounder import (
    CachedImage,
    ExpressionResult,
    Grounder,
    GroundingRequest,
    LRUCache,
)
from optisar_yolo.serve.limits import Limits, Refusal, check_expressions
from optisar_yolo.serve.outputs import (
    PAGE_COLUMNS,
    ResultFolder,
    draw_results,
    overlay,
    page_table,
    score_maps,
    shrink,
    write_png,
    write_results,
)
from optisar_yolo.serve.places import Place, place_of
from optisar_yolo.serve.uploads import check_bytes, image_key, read_upload
from optisar_yolo.synthetic import render_image

F = TypeVar("F", bound=Callable[..., Any])
OPEN_MODELS = 2  # models in memory at once
MAPS = 12  # expressions whose score maps are drawn
BOXES = 5  # per expression, at most, unless all matches are wanted
OUTPUTS = 5  # elements that results fill
STEP = 0.001  # of the confidence threshold
WIDTHS = [f"{w}px" for w in (190, 80, 105, 152, 190, 190, 150)]  # of columns: five, or seven with coordinates
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
HOVER = Path(__file__).with_name("hover.js").read_text(encoding="utf-8")
STYLE = """
footer { opacity: 0.7 }
.optisar-image img { object-fit: contain }
#status textarea { field-sizing: content }
.optisar-row-hit > * { background: color-mix(in srgb, var(--color-accent) 25%, transparent) !important }
#optisar-mark {
  display: none; position: fixed; z-index: 1000; pointer-events: none; box-sizing: border-box;
  border: 3px solid white; outline: 2px solid black; background: #ffffff30;
}
@media (max-width: 740px) { /* one column: results come before examples */
  .optisar-columns { flex-direction: column; flex-wrap: nowrap }
  .optisar-columns > *, .optisar-given > * { width: 100% !important; min-width: 0 !important; flex: none !important }
  .optisar-columns > .optisar-given { display: contents }
  /* gradio sets widths on the cells themselves */
  #table .header-cell, #table .body-cell { --body-text-size: 12px; font-size: 12px }
  #table :is(.header-cell, .body-cell):nth-child(1) { --wide: 104px }
  #table :is(.header-cell, .body-cell):nth-child(2) { --wide: 70px }
  #table :is(.header-cell, .body-cell):nth-child(3) { --wide: 96px }
  #table :is(.header-cell, .body-cell):nth-child(-n + 3) {
    width: var(--wide) !important; min-width: var(--wide) !important; max-width: var(--wide) !important;
    flex-basis: var(--wide) !important;
  }
  #table .header-table thead tr { display: flex } /* else its columns have the widths of a wide page */
  #files .filename { min-width: max-content; padding-right: 0 } /* else names are cut to their first letters */
  #files .download { padding-left: 0; padding-right: 0 }
  .optisar-later { order: 2 } .optisar-results { order: 1 }
}
"""
TITLE = "optisar: ground expressions in an image"
# rendered images of the split "test" and seed 0, with two expressions that are true of them and one that is not
EXAMPLES = {
    "optical": (
        0,
        "The airplane in the lower left corner of the image\nThe optical airplane in the middle of the image\n"
        "The SAR ship in the upper right corner of the image",
    ),
    "SAR": (
        5,
        "The rightmost SAR ship\nThe SAR ship on the left side of the image\n"
        "The optical tennis court in the middle of the image",
    ),
}


class ModelChoice:
    """Opens the models that the app offers, by name.

    Opening a ``.pt`` file executes its content. Therefore only ``.pt`` files that are named at the start are opened:
    whoever reaches the page, and may have uploaded a file, cannot make the server open it.

    Args:
        names: Weights and exports that may be chosen; the first is the default.
        paths: Whether any ``.safetensors`` file of this computer may be chosen, too.
        limits: Their ``remembered`` is the cache size of each model.
        engine: What runs the networks on a CPU, as in :meth:`OptiSAR.predict`.
    """

    def __init__(self, names: Sequence[str], paths: bool, limits: Limits, engine: str = "auto") -> None:
        self.engine = engine
        self.names, self.paths, self.limits = list(dict.fromkeys(names)), paths, limits
        self._open: LRUCache[Grounder] = LRUCache(OPEN_MODELS)
        self._lock = threading.Lock()

    def get(self, name: str) -> Grounder:
        """Return a model; it is opened where it is not open.

        Raises:
            Refusal: It may not be opened, does not exist or cannot be used.
        """
        if name not in self.names and not (self.paths and name.endswith(".safetensors")):
            others = ", or the path of a .safetensors file" if self.paths else ""
            hint = f"choose {', '.join(self.names)}{others}; name others at start"
            raise Refusal(403, "this model cannot be chosen here", hint)
        with self._lock:
            grounder = self._open.get(name)
            if grounder is None:
                try:
                    grounder = Grounder(name, remembered=self.limits.remembered, engine=self.engine)
                except (FileNotFoundError, ValueError) as error:
                    raise Refusal(404, f"the model cannot be opened: {error}", "choose another") from error
                self._open.put(name, grounder)
            return grounder


def _shrunk(image: CachedImage) -> str:
    """Return what to say about an image that the network sees much smaller."""
    note = shrink_note(image.size, max(image.canvas))
    return f" – {note}" if note else ""


class AppHandlers:
    """Functions behind the elements of the page.

    Args:
        models: Models to choose from.
        limits: Limits of images and expressions.
    """

    def __init__(self, models: ModelChoice, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.folder = ResultFolder()
        self.views: LRUCache[np.ndarray] = LRUCache(limits.remembered)
        self.places: LRUCache[Place] = LRUCache(limits.remembered)

    def load(self, path: str | None, grounder: Grounder) -> tuple[CachedImage, np.ndarray, bool]:
        """Return an image as encoded and as shown, and whether it was in the cache.

        Raises:
            Refusal: No image, or one that cannot be used.
        """
        if not path:
            raise Refusal(400, "there is no image", "upload one first")
        check_bytes(Path(path).stat().st_size, self.limits)
        data = Path(path).read_bytes()
        key = image_key(data)
        cached, view = grounder.cache.get(key), self.views.get(key)
        known = cached is not None
        if cached is None or view is None:
            image = read_upload(data, self.limits)
            view = shrink(image)
            self.views.put(key, view)
            cached = cached or grounder.encode(grounder.prepare(key, image))
        return cached, view, known

    def show_upload(self, path: str | None, name: str) -> tuple[str | None, str]:
        """Show an uploaded image, and encode it before the first expression."""
        if not path:
            return None, ""
        started = time.perf_counter()
        image, view, _ = self.load(path, self.models.get(name))
        spent = (time.perf_counter() - started) * 1000
        status = f"{image.size[0]} x {image.size[1]} pixels, read and encoded in {spent:.0f} ms; type expressions"
        status += _shrunk(image) + self._place(path, image).said
        return str(write_png(self.folder.new() / "image.png", view)), status

    # The names of the parameters are those of the endpoint /ground: programs may use them as keywords.
    def ground(
        self, path: str | None, sentences: str, conf: float, name: str, topk: float, every: bool = False
    ) -> tuple[Any, ...]:
        """Ground expressions, one a line: returns image, status, table, score maps and files."""
        lines = [line for line in (sentences or "").splitlines() if line.strip()]
        texts = check_expressions(lines, self.limits)
        grounder = self.models.get(name)
        started = time.perf_counter()
        image, view, known = self.load(path, grounder)
        # A slider that was not moved stands for the thresholds of the model: that of one box, and that of all matches.
        least = None if abs(conf - grounder.conf) <= STEP / 2 else conf
        asked = GroundingRequest(image, tuple(texts), least, "all" if every else int(topk))
        results = grounder.ground([asked])[0]
        spent = (time.perf_counter() - started) * 1000
        about = {"model": grounder.name, "conf": conf, "width": image.size[0], "height": image.size[1]}
        about |= {"image": image.key, "picture": image.key}  # the former name
        folder = self.folder.new()
        place = self._place(str(path), image)
        files = write_results(folder, draw_results(view, image.size, results), results, about, place.found)
        found, boxes = sum(bool(result.boxes) for result in results), sum(len(result.boxes) for result in results)
        counted = f"{found} of {len(results)} found" + (f" ({boxes} boxes)" if boxes > found else "")
        state = "image already encoded" if known else "image encoded"
        status = f"{counted}; {state}, grounded in {spent:.0f} ms; {image.size[0]} x {image.size[1]} pixels"
        status += _shrunk(image) + place.said
        maps = self._draw_maps(grounder, image, view, results, folder)
        return str(files[0]), status, page_table(results, place.found), maps, [str(f) for f in files]

    def _place(self, path: str, image: CachedImage) -> Place:
        """Return where an uploaded image lies on the ground."""
        place = self.places.get(image.key)
        if place is None:
            self.places.put(image.key, place := place_of(Path(path), image.size))
        return place

    def typed(self, path: str | None, sentences: str, *rest: Any) -> tuple[Any, ...]:
        """Ground when a line was ended with Enter; otherwise leave the page as it is."""
        if path and sentences.strip() and sentences.endswith("\n"):
            return self.ground(path, sentences, *rest)
        return (gr.skip(),) * OUTPUTS

    def _draw_maps(
        self, grounder: Grounder, image: CachedImage, view: np.ndarray, results: list[ExpressionResult], folder: Path
    ) -> list[tuple[str, str]]:
        """Draw the score maps of the first expressions."""
        texts = [result.text for result in results[:MAPS]]
        maps = score_maps(grounder, image, texts)  # none for an export
        return [
            (str(write_png(folder / f"map{i}.png", overlay(view, scores))), f"{i}. {text}")
            for i, (text, scores) in enumerate(zip(texts, maps, strict=False), 1)
        ]

    def example(self, index: int) -> tuple[str, str]:
        """Return the file and the expressions of an example."""
        path, text = self.examples()[index]
        return path, text

    def examples(self) -> list[list[str]]:
        """Render the example images."""
        made = []
        for name, (number, text) in EXAMPLES.items():
            path = self.folder.root / f"{name.lower()}.png"
            if not path.exists():
                write_png(path, render_image(seed=0, split="test", number=number)["img"])
            made.append([str(path), text])
        return made

    def choose_model(self, name: str) -> Any:
        """Open a model; the threshold becomes that of its calibration, and the page shows what its weights know."""
        grounder = self.models.get(name)
        return gr.Slider(value=round(grounder.conf, 3)), "\n".join(facts_lines(grounder.network))


def shows_refusals(function: F) -> F:
    """Decorate a function so that the page shows a refusal as an error message."""

    @wraps(function)
    def wrapper(*args: Any) -> Any:
        try:
            return function(*args)
        except Refusal as refusal:
            message = html.escape(f"{refusal.error}; {refusal.hint}")  # gradio renders messages as HTML
            raise gr.Error(message, title="Request refused", print_exception=False) from refusal

    return cast(F, wrapper)


def build_page(handlers: AppHandlers) -> gr.Blocks:
    """Make the page.

    Args:
        handlers: Functions behind its elements.

    Returns:
        The page, to be launched with :data:`THEME` and :data:`STYLE`.
    """
    models = handlers.models
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(
            "## Ground expressions in an optical or SAR image\nOne expression a line; Enter grounds them. One best box "
            "each, all matches of a plural (*all ships*). Point at a row to see its box."
        )
        with gr.Row(elem_classes="optisar-columns"):
            with gr.Column(scale=2, min_width=320, elem_classes="optisar-given"):
                source = gr.File(
                    label="Image (PNG, JPEG, TIFF, BMP, WebP)", type="filepath", height=120, elem_id="source"
                )
                texts = gr.Textbox(
                    label="Expressions, one a line", lines=3, max_lines=12, elem_id="texts",
                    placeholder="the SAR ship in the upper left", max_length=100_000,
                )  # fmt: skip
                go = gr.Button("Find", variant="primary", elem_id="go")
                conf = gr.Slider(
                    0, 1, value=round(models.get(models.names[0]).conf, 3), step=STEP, elem_id="conf",
                    label="Confidence threshold", info="starts at the model's calibrated threshold",
                )  # fmt: skip
                topk = gr.Slider(1, BOXES, value=1, step=1, label="Boxes per expression")
                every = gr.Checkbox(False, label="All matches of each expression", elem_id="every")
                model = gr.Dropdown(
                    models.names, value=models.names[0], label="Model", allow_custom_value=models.paths,
                    info="or the path of a .safetensors file" if models.paths else None,
                )  # fmt: skip
                with gr.Accordion("What these weights know", open=False, elem_classes="optisar-later"):
                    facts = gr.Textbox(
                        "\n".join(facts_lines(models.get(models.names[0]).network)), lines=8, max_lines=16,
                        interactive=False, show_label=False, container=False, elem_id="facts",
                    )  # fmt: skip
                examples = gr.Dataset(
                    label="Examples", components=[gr.Image(render=False), gr.Textbox(render=False)],
                    samples=handlers.examples(), type="index", elem_id="examples", elem_classes="optisar-later",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_classes="optisar-results"):
                image = gr.Image(
                    label="Results", interactive=False, type="filepath", elem_id="image",
                    elem_classes="optisar-image", buttons=["download", "fullscreen"], alt_text="image with boxes",
                )  # fmt: skip
                status = gr.Textbox(label="Status", lines=2, max_lines=5, interactive=False, elem_id="status")
                table = gr.Dataframe(
                    headers=list(PAGE_COLUMNS), datatype="str", interactive=False, wrap=True, elem_id="table",
                    label="Boxes: left, top, right, bottom in pixels",
                    column_widths=WIDTHS,  # a narrow page scrolls the table
                )  # fmt: skip
                gallery = gr.Gallery(
                    label="Score maps: yellow where the expression fits best", columns=2, object_fit="contain",
                    interactive=False, format="png", elem_id="maps", buttons=["download", "fullscreen"],
                )  # fmt: skip
                files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="files")
        ground: dict[str, Any] = {
            "fn": shows_refusals(handlers.ground),
            "inputs": [source, texts, conf, model, topk, every],
            "outputs": [image, status, table, gallery, files],
        }
        show: dict[str, Any] = {
            "fn": shows_refusals(handlers.show_upload),
            "inputs": [source, model],
            "outputs": [image, status],
        }
        private: dict[str, Any] = {"api_visibility": "private"}
        go.click(**ground, api_name="ground", trigger_mode="always_last")  # a click while one runs is not lost
        conf.release(**ground, **private)
        topk.release(**ground, **private)
        every.input(**ground, **private)
        texts.submit(**ground, **private, trigger_mode="always_last")  # Shift + Enter
        typed = ground | {"fn": shows_refusals(handlers.typed), "show_progress": "hidden"}
        texts.input(**typed, **private, trigger_mode="always_last")
        source.upload(**show, **private)
        source.clear(lambda: (None, "", None, None, None), None, ground["outputs"], **private)
        model.change(shows_refusals(handlers.choose_model), model, [conf, facts], **private).success(**show, **private)
        examples.click(handlers.example, examples, [source, texts], **private).then(**ground, **private)
    return page


def launch_app(
    handlers: AppHandlers, host: str, port: int, share: bool = False, browser: bool = False, block: bool = True
) -> gr.Blocks:
    """Serve the app.

    Args:
        handlers: Functions behind the page.
        host: Address to listen on.
        port: Port to listen on.
        share: Request a public address from gradio's servers.
        browser: Open a browser.
        block: Return when the app is interrupted, not at once.

    Returns:
        The page; its ``close()`` ends the app.

    Raises:
        OSError: It cannot be served there.
    """
    page = build_page(handlers).queue(max_size=32)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        inbrowser=browser,
        prevent_thread_lock=not block,
        theme=THEME,
        css=STYLE,
        js=HOVER,
        max_file_size=handlers.limits.max_bytes,
        ssr_mode=False,
        run_history=False,
        footer_links=["api", "settings"],
    )
    return page
