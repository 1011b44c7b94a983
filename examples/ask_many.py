"""Ground thirty expressions in an image: it is encoded once, and each expression costs little more."""

import logging
import time

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic import render_image

CORNERS = [f"in the {v} {h} corner" for v in ("upper", "lower") for h in ("left", "right")]
SIDES = ["at the top", "at the bottom", "on the left side", "on the right side", "in the middle", "closest to the top"]
TEXTS = [f"The {kind} {where} of the image" for kind in ("airplane", "vehicle", "ship") for where in CORNERS + SIDES]


def main() -> None:
    """Ground them together and one by one, print the boxes and both times, draw the boxes into ``many.png``."""
    logging.getLogger("ultralytics").setLevel(logging.WARNING)  # it names each expression without a box
    image = render_image(seed=0, split="test", number=0)["img"]  # or a file: encode("port.jpg")
    model = OptiSAR("optisar++n-pocket.safetensors")
    model.predict(image, text=TEXTS)  # warm-up, not timed

    start = time.perf_counter()
    together = model.encode(image).ground(TEXTS)
    middle = time.perf_counter()
    single = [model.predict(image, text=text)[0] for text in TEXTS]  # encodes the image thirty times
    end = time.perf_counter()

    for box, conf, which in zip(together.boxes.xyxy, together.boxes.conf, together.boxes.cls, strict=True):
        print(f"{conf:.2f}  {[round(v) for v in box.tolist()]}  {together.names[int(which)]}")
    print(f"{len(together.boxes)} of {len(TEXTS)} expressions found their object; one by one: {sum(map(len, single))}")
    print(f"together {middle - start:.2f} s, one by one {end - middle:.2f} s")
    together.save("many.png")


if __name__ == "__main__":
    main()
