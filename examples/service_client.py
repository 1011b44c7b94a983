"""Client of a running service (``optisar serve``): send an image and expressions, then one more expression alone.

optisar serve &
python service_client.py port.jpg "the SAR ship in the upper left" "the harbor"

It needs the package requests alone, not optisar-yolo. OPTISAR_URL names another address.
"""

import os
import sys

import requests

URL = os.environ.get("OPTISAR_URL", "http://127.0.0.1:8000") + "/v1/predict"


def main(image: str, texts: list[str]) -> None:
    """Ground expressions in an image, and print the results.

    Args:
        image: File of the image.
        texts: Expressions, at least one.
    """
    try:
        with open(image, "rb") as file:
            response = requests.post(URL, files={"source": file}, data={"text": texts}, timeout=60)
    except requests.ConnectionError:
        sys.exit(f"nobody answers at {URL}; start the service with: optisar serve")
    body = response.json()
    if not response.ok:  # the service says what is wrong and what to do about it
        sys.exit(f"{response.status_code}: {body['error']}; {body['hint']}")
    for answer in body["answers"]:
        found = [f"{box['conf']:.2f} at {box['xyxy']}" for box in answer["boxes"]] or ["nothing found"]
        print(f"{answer['text']}: {', '.join(found)}")

    # the service keeps the encoded image under its name: further expressions cost a fraction
    again = requests.post(URL, data={"image": body["image"], "text": "the largest ship"}, timeout=60)
    print(again.json()["answers"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
