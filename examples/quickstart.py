"""Ground one expression in an image of a rendered airport: one box."""

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic import render_image

image = render_image(seed=0, split="test", number=0)["img"]  # or a file name, a folder, a URL, an array
model = OptiSAR("optisar++n-pocket.safetensors")  # comes with the package
result = model.predict(image, text="The airplane closest to the top of the image")[0]
print(result.boxes.xyxy, result.boxes.conf, result.names)
result.save("answer.png")
