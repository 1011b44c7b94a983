"""Grounding in a raster, from the file to the results: read, stretch, cut, detect, merge, select, write."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.files import increment_path

from optisar_yolo.data import MODALITIES, DataError
from optisar_yolo.engine import checked_expressions
from optisar_yolo.geo.detecting import Detector, ExpressionDetector
from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.geo.merging import BOTTOM, INSIDE, LEFT, MARGIN, RIGHT, TOP, cut_sides, merge, open_sides
from optisar_yolo.geo.options import RasterOptions
from optisar_yolo.geo.outputs import write
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.result import RasterResult
from optisar_yolo.geo.sources import find_source
from optisar_yolo.geo.stretch import Stretch, choose_stretch
from optisar_yolo.geo.tiling import Grid, Tile
from optisar_yolo.language import BUILT_IN, Found, ObjectQuery, Vocabulary, order, parse, parse_raster_query
from optisar_yolo.utils import (
    Journal,
    fingerprint,
    intersection_union,
    need,
    ordered_map,
    results_folder,
)
from optisar_yolo.version import __version__

if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR

STATE = "state.jsonl"  # the tiles that are done, with their candidates
FLOOR = 0.05  # lowest confidence that is kept there, so that another conf needs no new run
AHEAD = 2  # groups of tiles that are read while the network is busy
MOST_TILES = 1_000_000  # days on a GPU; a raster of 100,000 x 100,000 pixels has 50,000 at 640 pixels
LEAST_SIDE = 32  # the stride of the network
LEAST_SCALE = 1 / 32  # a pixel of the file that fills a cell of the network's finest map (8 pixels) four times over
PAD = 2 * MARGIN  # working pixels between a tile's border and the end of a box that the border must not cut
SHIFTS = 2  # times that an object which ends at a border is looked for on a shifted tile: one per end
SHOWN = 20  # shifted tiles from which on progress is shown
MANY = 10_000  # candidates from which on merging shows its progress
COLUMNS = 9  # of a candidate: x1, y1, x2, y2 in pixels of the raster, confidence, expression, cut sides, at home, tile


def ground_raster(
    model: OptiSAR | None,
    source: str | Path,
    text: str | Sequence[str],
    options: RasterOptions | None = None,
    detector: Detector | None = None,
    **kwargs: Any,
) -> RasterResult:
    """Ground expressions in a raster of any size.

    Args:
        model: The model; may be None where a detector is given.
        source: GeoTIFF or any raster that GDAL reads, a STAC item, or the address of a tile server with ``{z}``,
            ``{x}`` and ``{y}`` (`optisar_yolo.geo.sources`).
        text: An expression or several.
        options: See `RasterOptions`.
        detector: Takes the model's place.
        **kwargs: Fields of `RasterOptions`, where no options are given.

    Returns:
        What was found. It is also written: `optisar_yolo.geo.outputs.write`.

    Raises:
        DataError: The file cannot be read.
        MissingExtraError: The extra ``geo`` is not installed.
        ValueError: An expression or an option that cannot be used here, or a source that needs one more.
    """
    options = options or RasterOptions(**kwargs)
    if options.map:
        need("bokeh")  # a missing package is reported before the run, not after it
    if options.vectors:
        need("pyogrio")
    texts = checked_expressions(text)
    if detector is None:
        if model is None:
            raise ValueError("ground_raster needs a model or a detector")
        detector = ExpressionDetector(model, options.device, options.engine)
    conf = detector.conf if options.conf is None else options.conf
    imgsz = options.imgsz or (640 if model is None else model.imgsz)
    chosen = find_source(source, options.asset, options.zoom, options.extent)
    identity = chosen.identity()
    with Raster(chosen, options.nodata, options.crs, options.transform, options.extent) as raster:
        place = Georeference(raster)
        if options.vectors and not place:
            raise ValueError(
                f"{raster.source}: vector={options.vector} needs a georeference, and the file has none that can be "
                "used; give crs= and transform="
            )
        vocabulary = getattr(detector, "vocabulary", BUILT_IN)
        queries = [parse_raster_query(t, place.compass, vocabulary) for t in texts]
        stretch, image = choose_stretch(raster, options, getattr(detector, "channels", 3))
        scale = options.gsd / place.metres if options.gsd else options.scale or 1.0
        grid = _grid(raster, imgsz, options, scale)
        _log_choices(raster, place, stretch, grid, queries, vocabulary)
        cores = list(dict.fromkeys(core for q in queries for core in q.cores))
        floor = min(conf, FLOOR)
        settings = {
            "version": __version__, **identity, "size": raster.size, "nodata": raster.nodata,
            "stretch": stretch.record(), "imgsz": imgsz, "overlap": options.overlap, "scale": grid.scale,
            "asked": cores, "floor": floor, **({"part": raster.part} if options.extent else {}),
        }  # fmt: skip
        key = fingerprint({**settings, "detector": detector.key})
        folder = _folder(options, chosen.stem, key)
        started = time.perf_counter()
        with Journal(folder / STATE, key) as journal:
            new = _detect(raster, grid, stretch, detector, cores, journal, floor, options.batch)
            candidates = _complete(raster, grid, stretch, detector, cores, journal, floor, conf)
        seconds = time.perf_counter() - started
        if chosen.identity() != identity:
            raise DataError(
                f"{raster.source}: the file was changed while it was read, so the results would be of neither version; "
                "nothing was written: run the command again when the file is complete"
            )
    found, ends = _select(queries, cores, candidates, conf, raster.size, options.most)
    record = settings | {
        "conf": conf, "topk": options.topk, "chosen": stretch.summary, "tiles": len(grid), "tiles_this_run": new,
        "seconds": round(seconds, 2),
        "megapixels_per_second": round(raster.size[0] * raster.size[1] * new / len(grid) / 1e6 / seconds, 2),
    }  # fmt: skip
    result = RasterResult(raster.source, raster.size, queries, found, place, image, folder, record, ends > 0)
    write(result, options.map, options.vectors)
    _log_result(result, cores, candidates, conf)
    return result


def _grid(raster: Raster, imgsz: int, options: RasterOptions, scale: float) -> Grid:
    """Cut the raster into tiles.

    Raises:
        ValueError: More than `MOST_TILES` tiles, the raster is less than `LEAST_SIDE` pixels of the network, or a
            pixel of it would be more than 1 / `LEAST_SCALE` pixels wide.
    """
    (width, height), given = raster.size, f"gsd={options.gsd:g}" if options.gsd else f"scale={scale:g}"
    step = max(imgsz - round(imgsz * options.overlap), 1)
    tiles = math.ceil(width / scale / step) * math.ceil(height / scale / step)  # before a list of so many is made
    if tiles > MOST_TILES:
        raise ValueError(
            f"{raster.source}: {given} and overlap={options.overlap:g} make {tiles:,} tiles of {width} x {height} "
            f"pixels (one pixel of the network is {scale:.3g} pixels of the file), more than {MOST_TILES:,}; choose a "
            "larger gsd= or scale=, a smaller overlap= or a part of the raster"
        )
    if scale < LEAST_SCALE:
        raise ValueError(
            f"{raster.source}: {given} makes one pixel of the file {1 / scale:.0f} pixels wide in the network, more "
            f"than {1 / LEAST_SCALE:.0f}, where nothing can be found; choose a larger gsd= or scale="
        )
    grid = Grid.of(width, height, imgsz, options.overlap, scale)
    if max(grid.width, grid.height) < LEAST_SIDE < max(width, height):
        raise ValueError(
            f"{raster.source}: {given} shrinks {width} x {height} pixels to {grid.width} x {grid.height}, too few to "
            "find anything; choose a smaller gsd= or scale="
        )
    return grid


def _log_choices(
    raster: Raster,
    place: Georeference,
    stretch: Stretch,
    grid: Grid,
    queries: list[ObjectQuery],
    vocabulary: Vocabulary,
) -> None:
    """Log what was chosen automatically, and how expressions were read where that is not obvious."""
    LOGGER.info(f"{raster.source}: {raster.size[0]} x {raster.size[1]} pixels, {stretch.summary}")
    for note in raster.placement.notes:
        LOGGER.warning(note)
    if place.note:
        (LOGGER.warning if raster.data.crs or not raster.data.transform.is_identity else LOGGER.info)(place.note)
    scale = max(grid.scale)
    LOGGER.info(
        f"{len(grid)} tiles of {grid.size[0]} x {grid.size[1]} pixels at scale {scale:.3g}; "
        f"objects up to {grid.overlap * scale:.0f} pixels of the file are whole in a tile"
    )
    for q in queries:
        if q.note:
            LOGGER.warning(q.note)
        modality = parse(q.text, vocabulary).modality
        if modality in MODALITIES and modality != stretch.modality:
            LOGGER.warning(f'"{q.text}" names {modality}, but the raster is taken for {stretch.modality} (modality=)')


def _folder(options: RasterOptions, stem: str, key: str) -> Path:
    """Return the folder of the run: that of an earlier run with the same fingerprint, or a new one."""
    base = results_folder("scene", options.project) / (options.name or re.sub(r'[:"*?<>|/\\]+', "-", stem))
    if options.exist_ok:
        if not options.resume:
            (base / STATE).unlink(missing_ok=True)
        return base
    if options.resume and base.parent.is_dir():
        for folder in sorted(base.parent.iterdir(), reverse=True):
            if folder.name.startswith(base.name) and Journal.belongs(folder / STATE, key):
                LOGGER.info(f"continuing in {folder}")
                return folder
    return Path(increment_path(base, sep=""))


def _detect(
    raster: Raster,
    grid: Grid,
    stretch: Stretch,
    detector: Detector,
    cores: list[str],
    journal: Journal,
    floor: float,
    batch: int,
) -> int:
    """Run the detector on all tiles that the journal lacks; return their number.

    The next tiles are read, and the boxes of the last ones stored, while the network is busy.
    """

    def found_in(
        group: tuple[list[Tile], list[Tile], NDArray[np.uint8]],
    ) -> tuple[list[Tile], list[Tile], list[NDArray[np.float32]]]:
        tiles, shown, images = group
        return tiles, shown, detector(images, cores, floor) if shown else []

    done = {index for entry in journal for index in entry["tiles"]}
    bar = TQDM(total=len(grid) - len(done), desc="scene", unit=" tiles", disable=len(done) == len(grid))
    groups = grid.groups(batch, done)
    if hasattr(detector, "expect"):
        detector.expect(len(grid) - len(done))
    read = ordered_map(partial(_read, raster, grid, stretch), groups, ahead=AHEAD)
    for tiles, shown, boxes in ordered_map(found_in, read, ahead=1):
        found = [_candidates(b, t, grid, floor) for b, t in zip(boxes, shown, strict=True)]
        journal.add({"tiles": [t.index for t in tiles], "found": np.concatenate(found).tolist() if found else []})
        bar.update(len(tiles))
    bar.close()
    return len(grid) - len(done)


def _read(
    raster: Raster, grid: Grid, stretch: Stretch, tiles: list[Tile]
) -> tuple[list[Tile], list[Tile], NDArray[np.uint8]]:
    """Read a group of tiles as one window.

    Returns:
        The tiles, those among them that show something, and the images of these, uint8 [B, 3, h, w] RGB.
    """
    x, y = min(t.x for t in tiles), min(t.y for t in tiles)
    width, height = max(t.x + t.width for t in tiles) - x, max(t.y + t.height for t in tiles) - y
    sx, sy = grid.scale
    values, valid = raster.read(stretch.read, (x * sx, y * sy, width * sx, height * sy), (width, height))
    window, valid = stretch(values, valid)
    shown, images = [], []
    for t in tiles:
        rows, columns = slice(t.y - y, t.y - y + t.height), slice(t.x - x, t.x - x + t.width)
        image = window[:, rows, columns]
        if valid[rows, columns].any() and (image != image[:, :1, :1]).any():  # some data, and more than one value
            shown.append(t)
            images.append(image)
    if not images:
        return tiles, [], np.zeros((0, 3, 0, 0), np.uint8)
    batch = np.stack(images)
    return tiles, shown, np.repeat(batch, len(stretch.bands), 1) if batch.shape[1] == 1 else batch


def _candidates(detections: NDArray[np.floating], tile: Tile, grid: Grid, floor: float) -> NDArray[np.float64]:
    """Turn a tile's detections [n, 6] into candidates [m, COLUMNS] in pixels of the raster."""
    kept = np.asarray(detections, float).reshape(-1, 6)
    kept = kept[(kept[:, 4] >= floor) & (kept[:, 2] > kept[:, 0]) & (kept[:, 3] > kept[:, 1])]
    boxes = kept[:, :4] + [tile.x, tile.y, tile.x, tile.y]  # working pixels
    border = (tile.x, tile.y, tile.x + tile.width, tile.y + tile.height)
    cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    left, top, right, bottom = tile.core
    return np.column_stack(
        [
            np.round(boxes * np.tile(grid.scale, 2), 2),
            np.round(kept[:, 4], 5),
            kept[:, 5],
            cut_sides(boxes, border, (grid.width, grid.height), MARGIN),
            (cx >= left) & (cx < right) & (cy >= top) & (cy < bottom),
            np.full(len(kept), tile.index),
        ]
    ).astype(float)


def _complete(
    raster: Raster,
    grid: Grid,
    stretch: Stretch,
    detector: Detector,
    cores: list[str],
    journal: Journal,
    floor: float,
    conf: float,
) -> NDArray[np.float64]:
    """Run the detector again where an object ends at the border of a tile, on a tile around that end.

    Returns:
        All candidates [N, COLUMNS], by tile. Of those in a shifted tile, only what holds the object that it is for.
    """
    known = {tuple(entry["shifted"]) for entry in journal if "shifted" in entry}
    scale = np.tile(grid.scale, 2)
    for _ in range(SHIFTS):
        candidates = _ordered(journal)
        shifted: list[tuple[int, Tile, NDArray[np.float64]]] = []
        for i in range(len(cores)):
            boxes, _, ends = _merged(candidates, i, conf)
            for box, sides in zip(boxes[ends > 0], ends[ends > 0].tolist(), strict=True):
                x, y = _around(box / scale, sides, grid)
                if (i, x, y) not in known:
                    known.add((i, x, y))
                    tile = Tile(len(grid), x, y, *grid.size, (x, y, x + grid.size[0], y + grid.size[1]))
                    shifted.append((i, tile, box))
        read = ordered_map(partial(_read, raster, grid, stretch), ([tile] for _, tile, _ in shifted), ahead=AHEAD)
        bar = TQDM(read, desc="shifted", unit=" tiles", total=len(shifted), disable=len(shifted) < SHOWN)
        for (i, tile, box), (_, shown, images) in zip(shifted, bar, strict=True):
            rows = _candidates(detector(images, [cores[i]], floor)[0], tile, grid, floor) if shown else candidates[:0]
            inter, _ = intersection_union(box, rows[:, :4])
            rows = rows[inter >= INSIDE * (box[2:] - box[:2]).prod()]
            rows[:, 5], rows[:, 7] = i, 0  # a whole box of the regular tiling comes first
            journal.add({"tiles": [], "shifted": [i, tile.x, tile.y], "found": rows.tolist()})
        if not shifted:
            break
    return _ordered(journal)


def _ordered(journal: Journal) -> NDArray[np.float64]:
    """Return all candidates [N, COLUMNS] by tile, whatever the order of the runs."""
    rows = [np.zeros((0, COLUMNS)), *(np.reshape(entry["found"], (-1, COLUMNS)) for entry in journal)]
    candidates = np.concatenate(rows)
    return candidates[np.argsort(candidates[:, 8], kind="stable")]


def _around(box: NDArray[np.float64], sides: int, grid: Grid) -> tuple[int, int]:
    """Return the corner of a tile with the cut end of a box in its middle, moved so that the other end is in it too."""
    corner = []
    for axis, (low, high) in enumerate(((LEFT, RIGHT), (TOP, BOTTOM))):
        side, length = grid.size[axis], (grid.width, grid.height)[axis]
        first, last = box[axis], box[axis + 2]
        start = (first + last - side) / 2
        if sides & high and not sides & low:
            start = min(last - side / 2, first - PAD)
        elif sides & low and not sides & high:
            start = max(first - side / 2, last + PAD - side)
        corner.append(int(min(max(round(start), 0), length - side)))
    return corner[0], corner[1]


def _merged(
    candidates: NDArray[np.float64], core: int, conf: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Merge the candidates of a core: boxes [M, 4], confidences [M], and the sides [M] on which they may go on."""
    mine = candidates[(candidates[:, 5] == core) & (candidates[:, 4] >= conf)]
    cut, home, tile = mine[:, 6].astype(int), mine[:, 7] > 0, mine[:, 8].astype(int)
    with TQDM(total=len(mine), desc="merging", unit=" boxes", disable=len(mine) < MANY) as bar:
        boxes, confs = merge(mine[:, :4], mine[:, 4], cut, home, tile, bar.update)
    return boxes, confs, open_sides(boxes, mine[:, :4], cut)


def _select(
    queries: list[ObjectQuery],
    cores: list[str],
    candidates: NDArray[np.float64],
    conf: float,
    size: tuple[int, int],
    most: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge the candidates of each core, and select those of each expression.

    Returns:
        [N, 6] as `RasterResult.found`, and [N] the sides on which each ends at the border of a tile.
    """
    objects = {core: _merged(candidates, i, conf) for i, core in enumerate(cores)}
    merged = {core: Found(boxes, confs) for core, (boxes, confs, _) in objects.items()}
    found, ends = [np.zeros((0, 6))], [np.zeros(0, np.int64)]
    for j, q in enumerate(queries):
        boxes, confs, sides = objects[q.core]
        chosen = order(q, merged, size)
        chosen = chosen[: None if most == 1 and q.kind == "set" else most]  # "all ships" needs no topk
        found.append(np.column_stack([boxes[chosen], confs[chosen], np.full(len(chosen), float(j))]))
        ends.append(sides[chosen])
    return np.concatenate(found), np.concatenate(ends)


def _log_result(result: RasterResult, cores: list[str], candidates: NDArray[np.float64], conf: float) -> None:
    """Log the best object of each expression, or why there is none."""
    for j, q in enumerate(result.queries):
        mine = result.of(j)
        if len(mine):
            x1, y1, x2, y2, best = mine[0, :5]
            more = f" and {len(mine) - 1} more" if len(mine) > 1 else ""
            if q.kind == "set":
                wanted = f", not {q.amount}" if q.amount not in (None, len(mine)) else ""
                more = f"{more}: {len(mine)} found{wanted}"
            LOGGER.info(f'"{q.text}": x {x1:.0f} to {x2:.0f}, y {y1:.0f} to {y2:.0f}, confidence {best:.2f}{more}')
            continue
        confs = candidates[candidates[:, 5] == cores.index(q.core), 4]
        if not len(confs):
            reason = f"no candidate, with conf={conf:.3g}"
        elif confs.max() < conf:
            reason = f"highest confidence {confs.max():.3f}, below conf={conf:.3g}"
        else:
            reason = "no object found has that place or ordinal"
        LOGGER.info(f'nothing found for "{q.text}": {reason}')
    if result.cut.any():
        LOGGER.warning(
            f"{result.cut.sum()} of {len(result.found)} boxes end at the border of a tile, also of a shifted one: the "
            'objects may be longer ("cut" in the GeoJSON and COCO files); a larger scale= or gsd= shows them whole'
        )
    rate = result.record["megapixels_per_second"]
    speed = f" ({rate} megapixels a second)" if result.record["tiles_this_run"] else ""
    LOGGER.info(f"Results saved to {result.folder}{speed}")
