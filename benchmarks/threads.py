"""Calls of one model at the same time: how many get a result that is not their own.

1. ``predict``, ``predict`` with several boxes per expression, ``encode`` with ``ground``, and ``ground`` on one encoded
   image are called in threads of one model, in each engine. Every thread has its own images and expressions, and every
   result is compared with that of the same call alone.
2. A stock model of Ultralytics predicts in one thread while ours predicts in another: its configuration must neither
   hold nor accept our keys.
3. ``predict`` is called inside the loop over ``predict(…, stream=True)`` of the same model.

    python benchmarks/threads.py --calls 1000
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from timing import RESULTS, about, add_to_record, pin
from ultralytics import YOLO
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic.render import render_image

RECORD = RESULTS / "threads.json"
TEXTS = (
    "the ship in the upper left", "the airplane at the bottom", "all ships", "the largest SAR ship",
    "the harbor", "the second ship from the left", "the transmission tower", "a ship",
)  # fmt: skip
WAYS = ("predict", "predict, 3 boxes", "encode and ground", "ground on one encoded image")
ENGINES = ("torch", "onnx")
WAIT = 300  # seconds after which a call inside a loop counts as blocked

Call = Callable[[int], Any]  # number of the call to its result


def same(result: Any, expected: Any) -> bool:
    """Tell whether two results have the same expressions, image and boxes, but for rounding."""
    return (
        result.names == expected.names
        and np.array_equal(result.orig_img, expected.orig_img)
        and result.boxes.data.shape == expected.boxes.data.shape
        and torch.allclose(result.boxes.data, expected.boxes.data, rtol=1e-3, atol=1e-2)
    )


def rendered(count: int, side: int) -> list[np.ndarray]:
    """Return rendered images, each with another height."""
    made = [render_image(seed=0, split="test", number=n)["img"] for n in range(count)]
    return [cv2.resize(image, (side, side - 8 * n)) for n, image in enumerate(made)]


def caller(model: OptiSAR, way: str, engine: str, imgsz: int, thread: int, images: Sequence[np.ndarray]) -> Call:
    """Return what a thread calls: each number is another expression, and no other thread has the same ones."""
    topk = 3 if way == "predict, 3 boxes" else 1
    image = images[0 if way == WAYS[3] else thread % len(images)]
    encoded = model.encode(image, imgsz, engine) if way == WAYS[3] else None

    def call(number: int) -> Any:
        text = f"{TEXTS[(number + thread) % len(TEXTS)]}{' here' * thread}"
        if encoded is not None:
            return encoded.ground(text, conf=0.0)
        if way == "encode and ground":
            return model.encode(image, imgsz, engine).ground(text, conf=0.0)
        given: dict[str, Any] = {"imgsz": imgsz, "engine": engine, "verbose": False, "save": False}
        return model.predict(image, text=text, topk=topk, conf=0.0, **given)[0]

    return call


def mixed(
    model: OptiSAR, way: str, engine: str, imgsz: int, calls: int, threads: int, images: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Call the model in several threads, and count results that differ from those of the same call alone."""
    mine = [caller(model, way, engine, imgsz, i, images) for i in range(threads)]
    if way == WAYS[3]:  # one encoded image for all
        mine = [mine[0] for _ in mine]
    expected = [[call(n) for n in range(len(TEXTS))] for call in mine]
    start = threading.Barrier(threads)

    def run(i: int) -> int:
        start.wait()
        wrong = 0
        for n in range(calls):
            # Threads are half a round apart, so that they never have the same expression at the same time.
            k = (n + i * len(TEXTS) // threads) % len(TEXTS)
            wrong += not same(mine[i](k), expected[i][k])
        return wrong

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        wrong = sum(pool.map(run, range(threads)))
    return {"calls": calls * threads, "mixed": wrong, "seconds": round(time.perf_counter() - begun, 1)}


def leaks(model: OptiSAR, imgsz: int, calls: int, image: np.ndarray) -> dict[str, Any]:
    """Let a stock model predict while ours does, and count configurations of it that know our keys."""
    stock = YOLO("yolo11n.yaml")
    end, lock = threading.Event(), threading.Lock()
    found = {"calls": 0, "stock_calls": 0, "keys_in_configuration": 0, "keys_accepted": 0}

    def predict_stock() -> None:
        while not end.is_set():
            stock.predict(image, imgsz=imgsz, verbose=False)
            own = bool({"topk", "text", "engine"} & set(vars(stock.predictor.args)))
            try:
                stock.predict(image, imgsz=imgsz, verbose=False, topk=1)
                accepted = 1
            except SyntaxError:  # what Ultralytics says of an unknown key
                accepted = 0
            with lock:
                found["stock_calls"] += 1
                found["keys_in_configuration"] += own
                found["keys_accepted"] += accepted

    thread = threading.Thread(target=predict_stock, daemon=True)
    thread.start()
    for n in range(calls):
        model.predict(image, text=TEXTS[n % len(TEXTS)], imgsz=imgsz, verbose=False)
        found["calls"] += 1
    end.set()
    thread.join(WAIT)
    return found


def nested(model: OptiSAR, imgsz: int, calls: int, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """Predict inside the loop over another call's results; count what is mixed, and whether it waits for ever."""
    given: dict[str, Any] = {"imgsz": imgsz, "conf": 0.0, "verbose": False}
    outer = [model.predict(image, text=TEXTS[0], **given)[0] for image in images]
    inner = model.predict(images[0], text=TEXTS[1], topk=3, **given)[0]
    found = {"calls": 0, "mixed": 0}

    def run() -> None:
        source = [images[n % len(images)] for n in range(calls)]
        for n, result in enumerate(model.predict(source, text=TEXTS[0], stream=True, **given)):
            other = model.predict(images[0], text=TEXTS[1], topk=3, **given)[0]
            found["calls"] += 1
            found["mixed"] += not (same(result, outer[n % len(images)]) and same(other, inner))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT)
    return found | {"waits": thread.is_alive()}


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="of each thread")
    parser.add_argument("--threads", type=int, default=2, help="that call the model")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--model", default="optisar++n-pocket.safetensors")
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    pin(1)
    run = about(1) | {"model": args.model, "imgsz": args.imgsz, "threads": args.threads}
    LOGGER.setLevel("CRITICAL")  # it would print its help for every key that a stock model refuses
    images = rendered(args.threads, args.imgsz)
    model, cells = OptiSAR(args.model), {}
    for engine in ENGINES:
        for way in WAYS:
            cells[f"{way}, {engine}"] = mixed(model, way, engine, args.imgsz, args.calls, args.threads, images)
            print(f"{way}, {engine}: {cells[f'{way}, {engine}']}", flush=True)
    cells["a stock model in another thread"] = leaks(model, args.imgsz, args.calls // 5, images[0])
    cells["predict inside a stream"] = nested(model, args.imgsz, args.calls // 5, images)
    for name in list(cells)[-2:]:
        print(f"{name}: {cells[name]}", flush=True)
    add_to_record(args.record, run, cells)


if __name__ == "__main__":
    main()
