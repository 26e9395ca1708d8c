"""How the pictures that int8 is calibrated with are stored in a bundle."""

from pathlib import Path
from typing import Any

from PIL import Image

from ppcls_lite.data.decode import load_image
from ppcls_lite.data.image_dataset import ImageDataset
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.int8.pictures import choose_pictures
from ppcls_lite.model_info import ModelInfo

SUFFIX = "JPEG"  # the documents'; what the compiler does with others is not known


def write_calibration(
    work: Path, info: ModelInfo, data: ImageDataset, count: int
) -> dict[str, Any]:
    """Writes calib/ and calibration_list.txt.

    The pictures are squares already: the short side resized and the centre cut out, as evaluation
    does it. The compiler's own Resize, which squashes, has nothing left to do to them.
    """
    (work / "calib").mkdir()
    chosen = choose_pictures(data.labels, count)
    side = info.preprocess.resize_size
    square = Preprocess(side, side, info.preprocess.interpolation)
    lines = []
    for number, index in enumerate(chosen):
        file = f"calib/{number:05d}.{SUFFIX}"
        pixels = square.pixels(load_image(data.path(index)))
        Image.fromarray(pixels).save(work / file, format="JPEG", quality=95, subsampling=0)
        lines.append(f"{file} {data.label(index)}\n")
    (work / "calibration_list.txt").write_text("".join(lines), encoding="utf-8")
    present = {data.label(index) for index in chosen}
    missing = [info.class_name(i) for i in range(info.num_classes) if i not in present]
    return {"pictures": len(chosen), "missing_classes": missing}
