"""A scene from file to answers: read, stretch, cut, ask, merge, choose, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER, RUNS_DIR, TQDM
from ultralytics.utils.files import increment_path

from optisar_yolo.engine import checked_expressions
from optisar_yolo.geo.detecting import Detector, ExpressionDetector
from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.geo.merging import MARGIN, cut_sides, merge
from optisar_yolo.geo.options import SceneOptions
from optisar_yolo.geo.outputs import write
from optisar_yolo.geo.reading import Raster, ahead
from optisar_yolo.geo.result import SceneResult
from optisar_yolo.geo.state import COLUMNS, State, belongs, file_identity, fingerprint
from optisar_yolo.geo.stretch import Stretch, declare
from optisar_yolo.geo.tiling import Grid, Tile
from optisar_yolo.language import Query, parse, parse_query, select
from optisar_yolo.utils import need
from optisar_yolo.version import __version__

if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR

FLOOR = 0.05  # least confidence that the state remembers, so that another conf needs no new run


def ground_scene(
    model: OptiSAR | None,
    source: str | Path,
    text: str | Sequence[str],
    options: SceneOptions | None = None,
    detector: Detector | None = None,
    **kwargs: Any,
) -> SceneResult:
    """Ask expressions of a scene of any size.

    Args:
        model: The model; may be None where a detector is given.
        source: GeoTIFF or any raster that GDAL reads.
        text: An expression or several.
        options: How; see `SceneOptions`.
        detector: Takes the model's place.
        **kwargs: Attributes of `SceneOptions`, where no options are given.

    Returns:
        What was found. It is also written: `optisar_yolo.geo.outputs.write`.

    Raises:
        DataError: The file cannot be read.
        MissingExtraError: The extra ``geo`` is not installed.
        ValueError: An expression or an option that means nothing here.
    """
    options = options or SceneOptions(**kwargs)
    if options.map:
        need("bokeh")  # known now rather than after hours
    texts = checked_expressions(text)
    if detector is None:
        if model is None:
            raise ValueError("ground_scene needs a model or a detector")
        detector = ExpressionDetector(model, options.device)
    conf = detector.conf if options.conf is None else options.conf
    imgsz = options.imgsz or (640 if model is None else model.imgsz)
    with Raster(source, options.nodata) as raster:
        place = Georeference(raster)
        asked = [parse_query(t, place.compass) for t in texts]
        shown, image = declare(
            raster, options.stretch, options.bands, options.modality, options.percentiles, options.limits
        )
        scale = options.gsd / place.metres if options.gsd else options.scale or 1.0
        grid = Grid.of(*raster.size, imgsz, options.overlap, scale)
        _tell(raster, shown, grid, asked)
        cores = list(dict.fromkeys(q.core for q in asked))
        floor = min(conf, FLOOR)
        settings = {
            "version": __version__, **file_identity(raster.source), "size": raster.size, "nodata": options.nodata,
            "stretch": shown.record(), "imgsz": imgsz, "overlap": options.overlap, "scale": grid.scale, "asked": cores,
            "floor": floor,
        }  # fmt: skip
        key = fingerprint({**settings, "detector": detector.key})
        folder = _folder(options, raster.source, key)
        started = time.perf_counter()
        with State(folder, key) as state:
            new = _scan(raster, grid, shown, detector, cores, state, floor, options.batch)
            candidates = state.candidates
        seconds = time.perf_counter() - started
    found = _answers(asked, cores, candidates, conf, raster.size, options.most)
    record = settings | {
        "conf": conf, "topk": options.topk, "chosen": shown.told, "tiles": len(grid), "tiles_this_run": new,
        "seconds": round(seconds, 2),
        "megapixels_per_second": round(raster.size[0] * raster.size[1] * new / len(grid) / 1e6 / seconds, 2),
    }  # fmt: skip
    result = SceneResult(raster.source, raster.size, asked, found, place, image, folder, record)
    write(result, options.map)
    _report(result, cores, candidates, conf)
    return result


def _tell(raster: Raster, shown: Stretch, grid: Grid, asked: list[Query]) -> None:
    """Say what was chosen, once."""
    LOGGER.info(f"{raster.source}: {raster.size[0]} x {raster.size[1]} pixels, {shown.told}")
    scale = max(grid.scale)
    longest = grid.overlap * scale
    LOGGER.info(
        f"{len(grid)} tiles of {grid.size[0]} x {grid.size[1]} pixels at scale {scale:.3g}; "
        f"objects up to {longest:.0f} pixels of the file are seen whole"
    )
    for q in asked:
        if q.note:
            LOGGER.warning(q.note)
        said = parse(q.text).modality
        if said and said != shown.modality:
            LOGGER.warning(f'"{q.text}" asks for {said}, but the scene is taken for {shown.modality} (modality=)')


def _folder(options: SceneOptions, source: str, key: str) -> Path:
    """Return the folder of the run: that of the same run, cut off or finished, or a new one."""
    base = Path(options.project or RUNS_DIR / "scene") / (options.name or Path(source).stem)
    if options.exist_ok:
        if not options.resume:
            (base / "state.jsonl").unlink(missing_ok=True)
        return base
    if options.resume and base.parent.is_dir():
        for folder in sorted(base.parent.iterdir(), reverse=True):
            if folder.name.startswith(base.name) and belongs(folder, key):
                LOGGER.info(f"going on with {folder}")
                return folder
    return Path(increment_path(base, sep=""))


def _scan(
    raster: Raster,
    grid: Grid,
    shown: Stretch,
    detector: Detector,
    cores: list[str],
    state: State,
    floor: float,
    batch: int,
) -> int:
    """Ask all tiles that are not done, while the next ones are read. Returns how many there were."""
    groups = grid.groups(batch, set(state.done))
    begun = len(state.done)
    bar = TQDM(total=len(grid) - begun, desc="scene", unit=" tiles", disable=begun == len(grid))
    for tiles, numbers, images in ahead(groups, partial(_read, raster, grid, shown)):
        answers = detector(images, cores, floor) if numbers else []
        found = [_in_scene(a, tiles[i], grid, floor) for i, a in zip(numbers, answers, strict=True)]
        state.add([t.index for t in tiles], np.concatenate(found) if found else np.zeros((0, COLUMNS)))
        bar.update(len(tiles))
    bar.close()
    return len(grid) - begun


def _read(
    raster: Raster, grid: Grid, shown: Stretch, tiles: list[Tile]
) -> tuple[list[Tile], list[int], NDArray[np.uint8]]:
    """Read a group of tiles as one window.

    Returns:
        The tiles, the positions among them of those with something to see, and their images uint8 [B, 3, h, w] RGB.
    """
    x, y = min(t.x for t in tiles), min(t.y for t in tiles)
    width, height = max(t.x + t.width for t in tiles) - x, max(t.y + t.height for t in tiles) - y
    sx, sy = grid.scale
    values, valid = raster.read(shown.read, (x * sx, y * sy, width * sx, height * sy), (width, height))
    image, valid = shown(values, valid)
    numbers, cut = [], []
    for i, t in enumerate(tiles):
        part = np.s_[t.y - y : t.y - y + t.height, t.x - x : t.x - x + t.width]
        seen = image[:, part[0], part[1]]
        if valid[part].any() and (seen != seen[:, :1, :1]).any():  # neither without data nor of one value
            numbers.append(i)
            cut.append(seen)
    if not cut:
        return tiles, [], np.zeros((0, 3, 0, 0), np.uint8)
    images = np.stack(cut)
    return tiles, numbers, np.repeat(images, 3, 1) if images.shape[1] == 1 else images


def _in_scene(answer: NDArray[np.floating], tile: Tile, grid: Grid, floor: float) -> NDArray[np.float64]:
    """Turn a tile's answers [n, 6] into candidates [m, COLUMNS] in pixels of the scene."""
    kept = np.asarray(answer, float).reshape(-1, 6)
    kept = kept[(kept[:, 4] >= floor) & (kept[:, 2] > kept[:, 0]) & (kept[:, 3] > kept[:, 1])]
    out = np.zeros((len(kept), COLUMNS))
    boxes = kept[:, :4] + [tile.x, tile.y, tile.x, tile.y]  # working pixels of the scene
    border = (tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)
    cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    left, top, right, bottom = tile.core
    out[:, :4] = np.round(boxes * np.tile(grid.scale, 2), 2)
    out[:, 4] = np.round(kept[:, 4], 5)
    out[:, 5] = kept[:, 5]
    out[:, 6] = cut_sides(boxes, border, (grid.width, grid.height), MARGIN)
    out[:, 7] = (cx >= left) & (cx < right) & (cy >= top) & (cy < bottom)
    out[:, 8] = tile.index
    return out


def _answers(
    asked: list[Query],
    cores: list[str],
    candidates: NDArray[np.float64],
    conf: float,
    size: tuple[int, int],
    most: int | None,
) -> NDArray[np.float64]:
    """Merge the candidates of each core, and choose for each expression. Returns [N, 6] as `SceneResult.found`."""
    objects = {}
    for i, core in enumerate(cores):
        mine = candidates[(candidates[:, 5] == i) & (candidates[:, 4] >= conf)]
        cut, home, tile = mine[:, 6].astype(int), mine[:, 7] > 0, mine[:, 8].astype(int)
        objects[core] = merge(mine[:, :4], mine[:, 4], cut, home, tile)
    found = [np.zeros((0, 6))]
    for j, q in enumerate(asked):
        boxes, sure = objects[q.core]
        chosen = select(q, boxes, sure, size)[:most]
        found.append(np.column_stack([boxes[chosen], sure[chosen], np.full(len(chosen), float(j))]))
    return np.concatenate(found)


def _report(result: SceneResult, cores: list[str], candidates: NDArray[np.float64], conf: float) -> None:
    """Say what was found, and what was not."""
    for j, q in enumerate(result.questions):
        mine = result.of(j)
        if len(mine):
            x1, y1, x2, y2, sure = mine[0, :5]
            more = f" and {len(mine) - 1} more" if len(mine) > 1 else ""
            LOGGER.info(f'"{q.text}": x {x1:.0f} to {x2:.0f}, y {y1:.0f} to {y2:.0f}, confidence {sure:.2f}{more}')
            continue
        seen = candidates[candidates[:, 5] == cores.index(q.core), 4]
        best = f"best confidence {seen.max():.3f}" if len(seen) else "nothing like it"
        why = "none of those found is there" if len(seen) and seen.max() >= conf else f"{best}, below conf={conf:.3g}"
        LOGGER.info(f'nothing found for "{q.text}": {why}')
    rate = result.record["megapixels_per_second"]
    speed = f" ({rate} megapixels a second)" if result.record["tiles_this_run"] else ""
    LOGGER.info(f"Results saved to {result.folder}{speed}")
