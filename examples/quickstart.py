"""Ask an image a question: a rendered airport, one expression, one box."""

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic.render import draw

image = draw(seed=0, split="test", number=0)["img"]  # or a file name, a folder, a URL, an array
model = OptiSAR("optisar++n-pocket.safetensors")  # comes with the package
answer = model.predict(image, text="The airplane closest to the top of the image")[0]
print(answer.boxes.xyxy, answer.boxes.conf, answer.names)
answer.save("answer.png")
