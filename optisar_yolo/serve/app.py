"""The browser app: drop an image, type expressions, see boxes, scores and score maps. Works without a network."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import gradio as gr
import numpy as np

from optisar_yolo.serve.answers import Engine, GroundingAnswer, GroundingRequest
from optisar_yolo.serve.limits import Limits, Refusal, within
from optisar_yolo.serve.maps import overlay, score_maps
from optisar_yolo.serve.models import Models
from optisar_yolo.serve.results import SHOWN, ResultFolder, compact, drawn, shown, write_png, write_results
from optisar_yolo.serve.session import CachedImage, Prepared, Remembered, key_of
from optisar_yolo.serve.uploads import check_bytes, read_upload
from optisar_yolo.synthetic import draw as render

F = TypeVar("F", bound=Callable[..., Any])
MAPS = 12  # expressions whose score maps are drawn
BOXES = 5  # per expression, at most
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
STYLE = "footer { opacity: 0.7 } .optisar-image img { object-fit: contain }"
TITLE = "optisar: ask an image"
# scenes of the rendered set, split "test" and seed 0, with two expressions that are true of them and one that is not
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


def told(function: F) -> F:
    """Show a refusal as the page shows errors, as text."""

    @wraps(function)
    def wrapper(*args: Any) -> Any:
        try:
            return function(*args)
        except Refusal as refusal:
            message = html.escape(f"{refusal.error}; {refusal.hint}")  # gradio renders messages as HTML
            raise gr.Error(message, title="Cannot be answered", print_exception=False) from refusal

    return cast(F, wrapper)


class Desk:
    """What happens when something on the page is used.

    Args:
        models: Models to choose from.
        limits: Limits of images and expressions.
    """

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.folder = ResultFolder()
        self.views: Remembered[np.ndarray] = Remembered(limits.remembered)

    def open(self, path: str | None, engine: Engine) -> tuple[CachedImage, np.ndarray, bool]:
        """Return an image as encoded and as shown, and whether it had been encoded before.

        Raises:
            Refusal: No image, or one that cannot be used.
        """
        if not path:
            raise Refusal(400, "there is no image", "drop one first")
        check_bytes(Path(path).stat().st_size, self.limits)
        data = Path(path).read_bytes()
        key = key_of(data)
        seen, view = engine.seen.get(key), self.views.get(key)
        known = seen is not None
        if seen is None or view is None:
            image = read_upload(data, self.limits)
            view = shown(image)
            self.views.put(key, view)
            seen = seen or engine.see(Prepared.of(key, image, engine.imgsz))
        return seen, view, known

    def look(self, path: str | None, name: str) -> tuple[str | None, str]:
        """Show an image that was dropped, and encode it ahead of the first expression."""
        if not path:
            return None, ""
        started = time.perf_counter()
        seen, view, _ = self.open(path, self.models.get(name))
        spent = (time.perf_counter() - started) * 1000
        said = f"{seen.size[0]} x {seen.size[1]} pixels, read and encoded in {spent:.0f} ms; type expressions"
        return str(write_png(self.folder.new() / "picture.png", view)), said

    def ground(self, path: str | None, expressions: str, conf: float, name: str, topk: float) -> tuple[Any, ...]:
        """Answer the expressions, one a line: image, status, table, score maps, files."""
        lines = [line for line in (expressions or "").splitlines() if line.strip()]
        texts = within(lines, self.limits)
        engine = self.models.get(name)
        started = time.perf_counter()
        seen, view, known = self.open(path, engine)
        answers = engine.answer([GroundingRequest(seen, tuple(texts), conf, int(topk))])[0]
        spent = (time.perf_counter() - started) * 1000
        image = drawn(view, seen.size, answers)
        about = {"model": engine.name, "conf": conf, "width": seen.size[0], "height": seen.size[1]}
        folder = self.folder.new()
        files = write_results(folder, image, answers, about | {"picture": seen.key})
        state = "image already encoded" if known else "image encoded"
        found = sum(bool(a.boxes) for a in answers)
        said = f"{found} of {len(answers)} found; {state}, answered in {spent:.0f} ms"
        maps = self._maps(engine, seen, view, answers, folder)
        return str(files[0]), said, compact(answers), maps, [str(f) for f in files]

    def _maps(
        self, engine: Engine, seen: CachedImage, view: np.ndarray, answers: list[GroundingAnswer], folder: Path
    ) -> list[tuple[str, str]]:
        """Draw the score maps of the first expressions."""
        texts = [a.text for a in answers[:MAPS]]
        return [
            (str(write_png(folder / f"map{i}.png", overlay(view, m))), f"{i + 1}. {text}")
            for i, (text, m) in enumerate(zip(texts, score_maps(engine, seen, texts), strict=False))
        ]

    def example(self, index: int) -> tuple[str, str]:
        """Return the file and the expressions of an example."""
        path, text = self.examples()[index]
        return path, text

    def examples(self) -> list[list[str]]:
        """Render the examples."""
        made = []
        for name, (number, text) in EXAMPLES.items():
            path = self.folder.root / f"{name.lower()}.png"
            if not path.exists():
                write_png(path, render(seed=0, split="test", number=number)["img"])
            made.append([str(path), text])
        return made

    def choose(self, name: str) -> Any:
        """Open a model; the threshold becomes that of its calibration."""
        return gr.Slider(value=round(self.models.get(name).conf, 3))


def build(desk: Desk) -> gr.Blocks:
    """Make the page.

    Args:
        desk: What happens on it.

    Returns:
        The page, to be launched with :data:`THEME` and :data:`STYLE`.
    """
    models = desk.models
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown("## Ask an optical or SAR image\nOne expression a line, one best box each, or “nothing found”.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                source = gr.File(
                    label="Image (PNG, JPEG, TIFF, BMP, WebP)", type="filepath", height=120, elem_id="source"
                )
                texts = gr.Textbox(
                    label="Expressions, one a line", lines=3, max_lines=12, elem_id="texts",
                    placeholder="the SAR ship in the upper left", max_length=100_000,
                )  # fmt: skip
                go = gr.Button("Find", variant="primary", elem_id="go")
                conf = gr.Slider(
                    0, 1, value=round(models.get(models.names[0]).conf, 3), step=0.001, elem_id="conf",
                    label="Least score of a box", info="starts at the model's calibrated threshold",
                )  # fmt: skip
                topk = gr.Slider(1, BOXES, value=1, step=1, label="Boxes per expression")
                model = gr.Dropdown(
                    models.names, value=models.names[0], label="Model", allow_custom_value=models.paths,
                    info="or the path of a .safetensors file" if models.paths else None,
                )  # fmt: skip
                examples = gr.Dataset(
                    label="Examples", components=[gr.Image(render=False), gr.Textbox(render=False)],
                    samples=desk.examples(), type="index", elem_id="examples",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=320):
                image = gr.Image(
                    label="Answers", interactive=False, type="filepath", elem_id="picture",
                    elem_classes="optisar-picture", buttons=["download", "fullscreen"], alt_text="image with boxes",
                )  # fmt: skip
                status = gr.Textbox(label="Status", lines=2, max_lines=2, interactive=False, elem_id="status")
                table = gr.Dataframe(
                    headers=list(SHOWN), datatype="str", interactive=False, wrap=True, elem_id="table",
                    label="Boxes: left, top, right, bottom in pixels",
                    column_widths=["36%", "15%", "11%", "23%", "15%"],
                )  # fmt: skip
                gallery = gr.Gallery(
                    label="Score maps: yellow where the expression fits best", columns=2, object_fit="contain",
                    interactive=False, format="png", elem_id="maps", buttons=["download", "fullscreen"],
                )  # fmt: skip
                files = gr.File(label="Results", file_count="multiple", interactive=False, elem_id="files")
        asked: dict[str, Any] = {
            "fn": told(desk.ground),
            "inputs": [source, texts, conf, model, topk],
            "outputs": [image, status, table, gallery, files],
        }
        private: dict[str, Any] = {"api_visibility": "private"}
        go.click(**asked, api_name="ground")
        conf.release(**asked, **private)
        topk.release(**asked, **private)
        looked: dict[str, Any] = {"fn": told(desk.look), "inputs": [source, model], "outputs": [image, status]}
        source.upload(**looked, **private)
        source.clear(lambda: (None, "", None, None, None), None, asked["outputs"], **private)
        model.change(told(desk.choose), model, conf, **private).success(**looked, **private)
        examples.click(desk.example, examples, [source, texts], **private).then(**asked, **private)
    return page
