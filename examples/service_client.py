"""Ask a running service (``optisar serve``): an image and expressions, then one more expression without the image.

optisar serve &
python service_client.py port.jpg "the SAR ship in the upper left" "the harbor"

It needs requests alone, so it also runs where optisar-yolo is not installed; OPTISAR_URL names another address.
"""

import os
import sys

import requests

URL = os.environ.get("OPTISAR_URL", "http://127.0.0.1:8000") + "/v1/predict"


def main(image: str, texts: list[str]) -> None:
    """Ask about an image.

    Args:
        image: Its file.
        texts: Expressions, at least one.
    """
    try:
        with open(image, "rb") as file:
            response = requests.post(URL, files={"source": file}, data={"text": texts}, timeout=60)
    except requests.ConnectionError:
        sys.exit(f"nobody answers at {URL}; start the service with: optisar serve")
    said = response.json()
    if not response.ok:  # the service says what is wrong and what to do about it
        sys.exit(f"{response.status_code}: {said['error']}; {said['hint']}")
    for answer in said["answers"]:
        found = [f"{box['conf']:.2f} at {box['xyxy']}" for box in answer["boxes"]] or ["nothing found"]
        print(f"{answer['text']}: {', '.join(found)}")

    # the service remembers the image by its name: further expressions cost a fraction
    again = requests.post(URL, data={"picture": said["picture"], "text": "the largest ship"}, timeout=60)
    print(again.json()["answers"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
