"""From boxes without expressions to a trained model: about a minute on a CPU.

Rendered images with YOLO labels take the place of a folder of your own. Two epochs on 24 images change little: the
right boxes come from the bundled weights that the training starts from. See docs/datasets.md and docs/train.md.
"""

from pathlib import Path

import cv2
import yaml

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main as optisar
from optisar_yolo.data import load_dataset_config, load_split
from optisar_yolo.synthetic import NAMES, render_image

# 1. Boxes: own-boxes/<modality>/images/*.png and labels/*.txt (class, centre x, centre y, width, height as shares)
for number in range(30):
    made = render_image(seed=1, split="train", number=number, size=(224, 288))
    images, labels = (Path("own-boxes", made["modality"], kind) for kind in ("images", "labels"))
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)
    cv2.imwrite(str(images / f"{number}.png"), made["img"])
    (x1, y1, x2, y2), (h, w) = made["boxes"].T, made["img"].shape[:2]
    shares = zip((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h, strict=True)
    lines = [f"{NAMES.index(n)} {x} {y} {b} {t}" for n, (x, y, b, t) in zip(made["names"], shares, strict=True)]
    (labels / f"{number}.txt").write_text("\n".join(lines))

# 2. Expressions: a recipe names the boxes; `describe` writes expressions that distinguish one object from the others
layout = {"format": "yolo", "images": ["images"], "annotations": "labels", "names": list(NAMES), "licence": "mine"}
words = {m: {"categories": {n: n for n in NAMES if n.startswith(m)}} for m in ("optical", "sar")}
sources = [{"name": m, "path": m, "modality": m, **layout, **words[m]} for m in words]
steps = {"clean": {}, "describe": {}, "split": {"ratio": "8:1:1"}, "write": {}}
recipe = {"name": "mine", "names": list(NAMES), "sources": sources, "build": steps}
Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
if optisar(["dataset", "build", "recipe=recipe.yaml", "root=own-boxes", "work=build", "to=mine"]):
    raise SystemExit("the data set was not built")

# 3. Train, then ground an expression
model = OptiSAR("optisar++n-pocket.safetensors")  # or optisar++n.yaml: from scratch
runs = Path("runs").resolve()
model.train(data="mine/mine.yaml", epochs=2, imgsz=192, batch=8, project=runs, name="mine", exist_ok=True, plots=False)
images = load_split(load_dataset_config("mine/mine.yaml"), "test")
described = [(im, box, text) for im in images for box, own in zip(im.boxes, im.captions, strict=True) for text in own]
image, box, text = next(d for d in described if d[2].endswith("of the image"))  # a place; ordinals take longer training
found = model.predict(image.path, text=text, conf=0.0)[0].boxes
print(f'"{text}" is at {box.round().astype(int).tolist()};')
print(f"the model says {found.xyxy[0].round().int().tolist()}, confidence {float(found.conf[0]):.2f}")
