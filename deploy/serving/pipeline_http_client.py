"""Step6's client: sends an image to Paddle Serving's pipeline, or to tools/serve.py.

python3 pipeline_http_client.py
python3 pipeline_http_client.py --image cat.jpg --image dog.jpg --topk 5
"""

import argparse
import base64
import json
import sys
import time
from pathlib import Path

import requests

PICTURE = Path(__file__).resolve().parents[2] / "test_images" / "coffee.jpg"


PICTURE_TYPES = (".jpg", ".jpeg", ".png")


def main() -> int:
    """Sends the images, prints the answer and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:18080/imagenet/prediction")
    parser.add_argument("--logid", type=int, default=10000, help="number that goes into the log")
    parser.add_argument(
        "--image", action="append", help=f"image, or folder of them; may be repeated [{PICTURE}]"
    )
    parser.add_argument("--topk", type=int, help="classes per image; tools/serve.py only")
    parser.add_argument(
        "--wait", type=float, default=0, help="seconds that the server may take to start"
    )
    args = parser.parse_args()
    paths = [path for name in args.image or [PICTURE] for path in pictures(Path(name))]
    keys = ["image", *(f"image_{number}" for number in range(1, len(paths)))]
    values = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    data = {"key": keys, "value": values, "logid": args.logid}
    if args.topk:
        data["topk"] = args.topk
    try:
        reply = ask(args.url, data, time.monotonic() + args.wait)
    except requests.RequestException as error:
        print(f"no answer from {args.url}: {error}\n  next: python tools/serve.py FOLDER",
              file=sys.stderr)  # fmt: skip
        return 1
    print(reply)
    return 1 if reply.get("err_no", 1) else 0  # Paddle Serving's gateway has errors without it


def pictures(path: Path) -> list[Path]:
    """Returns the images of a folder, or the path itself."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURE_TYPES)


def ask(url: str, data: dict, give_up: float) -> dict:
    """Returns the server's reply; until `give_up`, a refused connection is tried again.

    Raises:
        requests.RequestException: no answer, or none in JSON.
    """
    with requests.Session() as session:
        session.trust_env = False  # without proxies: Step6 has people unset them
        while True:
            try:
                return session.post(url, data=json.dumps(data), timeout=60).json()
            except requests.ConnectionError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
