"""The vision processor's parameter file, in the three forms of the tool chain's two eras.

sdk1.0/    flat, numbers only            for sample_cls.py
vamp/      a list of typed properties    for vamp 1
build_in/  OpType and OpConfig           for vamp 2 and classification.py
"""

from pathlib import Path
from typing import Any

from ppcls_lite.accelerator.pixels import (
    CardPreprocess,
    half_bits,
    half_rounded,
    half_value,
)
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError, nearest, shortened
from ppcls_lite.untrusted import read_json, reading

FORMS = ("sdk1.0", "vamp", "build_in")
# Numbers of the flat form and their names in the others.
FROM_BUNDLE = "take one of the three files in a bundle's vdsp_params/"
RESIZE_CROP = 300  # vdsp_op_type
RGB_PLANAR = 5000
BILINEAR_CV = 1
NO_CHANGE, RGB2BGR = 2, 4  # color_cvt_code
BT709 = 0
DIV255_MINUSMEAN_DIVSTD = 4  # norma_type
FUSED_OP = "RGB_RESIZE_CVTCOLOR_CROP_NORMALIZATION_TENSORIZATION_U8"
FUSED_OP_2 = "FUSION_OP_RGB_RESIZE_CVTCOLOR_CROP_NORM_TENSOR"

FLAT_KEYS = (
    "vdsp_op_type", "iimage_format", "iimage_width", "iimage_height", "iimage_width_pitch",
    "iimage_height_pitch", "short_edge_threshold", "resize_type", "color_cvt_code", "color_space",
    "crop_size", "meanr", "meang", "meanb", "stdr", "stdg", "stdb", "norma_type",
)  # fmt: skip
# Their generator finds an entry by its position: the order is part of the form.
LIST_TYPES = {
    "iimage_format": "UINT_32", "iimage_width": "INT", "iimage_height": "INT",
    "iimage_width_pitch": "UINT_32", "iimage_height_pitch": "UINT_32",
    "short_edge_threshold": "INT", "crop_size": "UINT_32",
    "meanr": "UINT_16", "meang": "UINT_16", "meanb": "UINT_16",
    "stdr": "UINT_16", "stdg": "UINT_16", "stdb": "UINT_16",
    "norma_type": "INT", "resize_type": "INT", "color_cvt_code": "UINT_16",
    "color_space": "UINT_16",
}  # fmt: skip
LIST_NAMES: dict[str, dict[int, str]] = {
    "iimage_format": {RGB_PLANAR: "RGB_PLANAR"},
    "norma_type": {DIV255_MINUSMEAN_DIVSTD: "DIV255_MINUSMEAN_DIVSTD"},
    "resize_type": {BILINEAR_CV: "BILINEAR_CV"},
    "color_cvt_code": {NO_CHANGE: "COLOR_NO_CHANGE", RGB2BGR: "COLOR_RGB2BGR"},
    "color_space": {BT709: "COLOR_SPACE_BT709"},
}
CONFIG_KEYS = (
    "IimageFormat", "IimageWidth", "IimageHeight", "OimageWidth", "OimageHeight", "CropX", "CropY",
    "ResizeWidth", "ResizeHeight", "IimageWidthPitch", "IimageHeightPitch", "Mean", "Std",
    "NormaType", "ColorCvtCode", "ResizeType",
)  # fmt: skip


def vdsp_params(spec: Preprocess, form: str) -> dict[str, Any]:
    """Returns the content of a parameter file.

    Args:
        spec: what the network was trained with.
        form: one of `FORMS`. build_in has no short-side resize: it squashes.
    """
    resize, crop = spec.resize_size, spec.crop_size
    if form == "build_in":
        offset = (resize - crop) // 2
        sizes = (resize, resize, crop, crop, offset, offset, resize, resize, resize, resize)
        mean, std = ([half_rounded(x) for x in values] for values in (spec.mean, spec.std))
        ends = (mean, std, "DIV255_MINUSMEAN_DIVSTD", "NO_CHANGE", "BILINEAR_CV")
        values = ("RGB_PLANAR", *sizes, *ends)
        return {"OpType": FUSED_OP_2, "OpConfig": dict(zip(CONFIG_KEYS, values, strict=True))}
    flat = dict(
        zip(
            FLAT_KEYS,
            (
                *(RESIZE_CROP, RGB_PLANAR, resize, resize, resize, resize, resize),
                *(BILINEAR_CV, NO_CHANGE, BT709, crop),
                *(half_bits(x) for x in (*spec.mean, *spec.std)),
                DIV255_MINUSMEAN_DIVSTD,
            ),
            strict=True,
        )
    )
    if form == "sdk1.0":
        return flat
    return {
        "vdsp_op_type": FUSED_OP,
        "config": [
            {
                "Property": key,
                "DType": kind,
                "ParamType": "ELEMENT",
                "Value": LIST_NAMES[key][flat[key]] if key in LIST_NAMES else flat[key],
            }
            for key, kind in LIST_TYPES.items()
        ],
    }


def read_vdsp(path: Path) -> CardPreprocess:
    """Reads a parameter file of any form.

    Raises:
        UserError: it is damaged, has an unknown key, or asks for what the stand-in cannot do.
    """
    what = "vision-processor parameter file"
    content = read_json(path, what, FROM_BUNDLE)
    with reading(path, what, FROM_BUNDLE):
        if "OpType" in content:
            return _from_config(path, content)
        return _from_flat(path, _flat_of_list(content) if "config" in content else content)


def _flat_of_list(content: dict[str, Any]) -> dict[str, Any]:
    flat = {entry["Property"]: entry["Value"] for entry in content["config"]}
    for key, names in LIST_NAMES.items():
        numbers = {name: number for number, name in names.items()}
        flat[key] = numbers.get(flat[key], flat[key])
    return flat | {"vdsp_op_type": RESIZE_CROP}


def _from_flat(path: Path, flat: dict[str, Any]) -> CardPreprocess:
    _same_keys(path, flat, FLAT_KEYS)
    _supported(path, flat, "norma_type", (DIV255_MINUSMEAN_DIVSTD,))
    _supported(path, flat, "color_cvt_code", (NO_CHANGE, RGB2BGR))
    _supported(path, flat, "vdsp_op_type", (RESIZE_CROP,))
    mean, std = (
        tuple(half_value(flat[f"{kind}{channel}"]) for channel in "rgb") for kind in ("mean", "std")
    )
    return CardPreprocess(
        resize=flat["short_edge_threshold"],
        squash=False,
        crop=flat["crop_size"],
        mean=_three(mean),
        std=_three(std),
        bgr=flat["color_cvt_code"] == RGB2BGR,
    )


def _from_config(path: Path, content: dict[str, Any]) -> CardPreprocess:
    _supported(path, content, "OpType", (FUSED_OP_2,))
    config = content["OpConfig"]
    _same_keys(path, config, CONFIG_KEYS)
    _supported(path, config, "NormaType", ("DIV255_MINUSMEAN_DIVSTD",))
    _supported(path, config, "ColorCvtCode", ("NO_CHANGE", "RGB2BGR"))
    resize, crop = config["ResizeWidth"], config["OimageWidth"]
    squares = (config["ResizeHeight"] == resize, config["OimageHeight"] == crop)
    if not all(squares) or (config["CropX"], config["CropY"]) != ((resize - crop) // 2,) * 2:
        raise UserError(f"{path}: only square sizes with a centre crop are simulated", FROM_BUNDLE)
    return CardPreprocess(
        resize=resize,
        squash=True,
        crop=crop,
        mean=_three(config["Mean"]),
        std=_three(config["Std"]),
        bgr=config["ColorCvtCode"] == "RGB2BGR",
    )


def _three(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _same_keys(path: Path, found: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            raise UserError(
                f"{path}: unknown key {shortened(repr(key))}{nearest(key, known)}",
                "rename this key, or delete it",
            )
    for key in known:
        if key not in found:
            raise UserError(f"{path}: {key} is missing", FROM_BUNDLE)


def _supported(path: Path, values: dict[str, Any], key: str, allowed: tuple[Any, ...]) -> None:
    if values[key] not in allowed:
        raise UserError(
            f"{path}: {key} {shortened(repr(values[key]))} is not simulated; allowed: "
            + ", ".join(map(repr, allowed)),
            FROM_BUNDLE,
        )
