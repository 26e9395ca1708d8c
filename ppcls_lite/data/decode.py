"""One rule for what a picture shows: upright 8-bit RGB, however it is stored or handed over.

Training, evaluation, prediction and the server all decode here.
"""

import errno
import functools
import importlib
import importlib.util
import os
import re
import shlex
import stat
import threading
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls_lite.data.jpeg import SPARE, Picture, PlainJpeg, unavailable
from ppcls_lite.errors import UserError
from ppcls_lite.program import install_hint

END_OF_JPEG = b"\xff\xd9"  # marker EOI (ITU-T T.81, table B.1)
# EXIF tag 0x0112 -> what brings the stored pixels upright (EXIF 2.32, table 6).
EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Brands of an ISO base media file (ISO/IEC 23008-12, annex B) -> what reads it.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Many, so that threads with images of their own hardly ever wait for each other.
LOCKS = tuple(threading.Lock() for _ in range(64))
# http://..., s3://..., and https:/..., which pathlib makes of it; not C:/...
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
REMEDY = "save such an image again as JPEG or PNG, or leave it out"


class ImageError(UserError, ValueError):
    """A picture that cannot be read.

    Args:
        source: the file, or what was given instead of one.
        cause: why it cannot be read, in words.
    """

    def __init__(self, source: str, cause: str) -> None:
        super().__init__(f"{source}: {cause}", REMEDY)
        self.args = (source, cause)  # so that the error survives pickling
        self.source = source
        self.cause = cause


def load_image(source: str | Path | bytes) -> Image.Image:
    """Reads a picture of any common kind as `upright_rgb`.

    The format is found in the content, whatever the file name says. HEIC needs the package
    pillow-heif. Of an animation it is the first frame.

    Args:
        source: a file, or the bytes of one.

    Raises:
        ImageError: names the file and the cause, for everything that cannot be decoded.
        MemoryError: there was not enough to decode it.
    """
    read_heic()
    try:
        file = BytesIO(source) if isinstance(source, bytes) else regular_file(source)
        with Image.open(file) as image:
            return upright_rgb(image)
    except MemoryError:
        raise  # the picture may be a good one
    # Pillow's decoders meet broken data with OSError, SyntaxError, struct.error, zlib.error,
    # IndexError, ... There is no narrower common class.
    except Exception as error:
        name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
        raise ImageError(name, _cause(source, error)) from error


def picture_size(source: bytes) -> tuple[int, int]:
    """Returns width and height that the head of a picture file states, before it is turned upright.

    Raises:
        ImageError: it states none.
    """
    read_heic()
    try:
        with Image.open(BytesIO(source)) as image:
            return image.size
    except Exception as error:
        raise ImageError(f"<{len(source)} bytes>", _cause(source, error)) from error


def open_image(source: str | Path | bytes, decode: str = "exact") -> Picture:
    """Reads a picture like `load_image`, but a plain JPEG is only decoded by `resized`.

    Args:
        source: a file, or the bytes of one.
        decode: exact gives the pixels of `load_image`; fast decodes JPEGs smaller and with
            simpler chroma where that hardly shows.

    Raises:
        ImageError: as `load_image`.
    """
    if unavailable():
        return load_image(source)
    try:
        data = source if isinstance(source, bytes) else Path(regular_file(source)).read_bytes()
        with Image.open(BytesIO(data)) as image:
            plain = image.format == "JPEG" and image.mode in ("RGB", "L")
            # A file without its end is truncated, which a decoder that stops early would not see.
            if plain and data.endswith(END_OF_JPEG) and _orientation(image) not in UPRIGHT:
                whole = functools.partial(load_image, source)
                return PlainJpeg(data, image.size, SPARE[decode], whole)
    except Exception:  # whatever it is, load_image gives it words
        return load_image(source)
    return load_image(source)


def regular_file(path: str | Path) -> str | Path:
    """Returns the path of a file, or of a link to one.

    Raises:
        OSError: nothing is there, or a pipe, a socket or a device, which may be read without end.
    """
    if other := special_file(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, f"is a {other}, not a file")
    return path


def special_file(mode: int) -> str:
    """Says what kind of special file this is, by `st_mode`; "" for files and folders."""
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    kinds |= {stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "")


def upright_rgb(image: Image.Image) -> Image.Image:
    """Makes upright 8-bit RGB of an image; the image itself stays as it is.

    Grey and palette pictures get three channels, transparency is dropped (as torchvision does),
    16-bit grey becomes 8 bits by `eight_bits`.

    Raises:
        ValueError: the range of its values is unknown, or lost in decoding.
        Exception: Pillow's, where the data is broken.
    """
    # Pillow gives the upper byte of 16-bit colours; it knows the bits only until it has decoded.
    is_deep = image.mode in ("RGB", "RGBA", "LA") and _has_16_bits(image)
    image.load()
    orientation = _orientation(image)
    if "transparency" in image.info:
        # Pillow warns about alpha values in a palette although RGB has no use for them.
        image = image.copy()
        del image.info["transparency"]
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    image = image.convert("RGB")
    if is_deep and np.asarray(image).max() < 16:
        raise ValueError(
            "16-bit colours that use the lower 12 bits only, of which 8-bit decoding leaves"
            " nothing; save it with 8 bits"
        )
    # Differs from torchvision: its loader ignores the EXIF orientation. People see phone pictures
    # upright, so the model must see them upright too, in training and in prediction alike.
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def loaded_rgb(image: Image.Image) -> Image.Image:
    """Gives a caller's image as `upright_rgb`.

    Pillow opens a file lazily and lets two threads decode one image into each other: a caller may
    hand the same image over in several.

    Raises:
        ImageError: it cannot be decoded.
    """
    with LOCKS[id(image) // 64 % len(LOCKS)]:
        try:
            return upright_rgb(image)
        except MemoryError:
            raise
        except Exception as error:  # of any class, as in load_image
            name = str(getattr(image, "filename", "") or f"<{type(image).__name__}>")
            raise ImageError(name, f"cannot be decoded: {error or type(error).__name__}") from error


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Integers of up to 16 bits -> uint8 of the same shape: the upper 8 of the bits in use.

    Files and arrays of 16 bits often hold what a camera of 12 bits measured, or a picture of 8.
    Nothing in them says so: it is taken for 12 bits when every value fits into 12, for 8 when every
    value fits into 8.

    Raises:
        ValueError: a value is negative or has more than 16 bits.
    """
    # Differs from torchvision: its loader clips 16-bit values at 255, which turns nearly every such
    # picture white.
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > 65535:
        raise ValueError("more than 16 bits per pixel; save it with 8 or 16 bits")
    bits = next(bits for bits in (8, 12, 16) if high < 1 << bits)
    return (values >> (bits - 8)).astype(np.uint8)


def allow_megapixels(megapixels: float) -> None:
    """Sets how large a picture may be in this process and the workers that it starts.

    Pillow itself refuses pictures above 179 million pixels: a small file can hold one that takes
    all memory.
    """
    Image.MAX_IMAGE_PIXELS = int(megapixels * 1e6 / 2)  # it warns from here on, fails at twice this
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@functools.cache
def read_heic() -> bool:
    """Lets Pillow read HEIC, which phones write; tells whether it can."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    importlib.import_module("pillow_heif").register_heif_opener()
    return True


def how_to_fetch(source: object) -> str:
    """Returns the command that downloads an address; "" for what is no address."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    if not isinstance(text, str) or not ADDRESS.match(text):
        return ""
    scheme, _, rest = text.partition(":")
    address = f"{scheme}://{rest.lstrip('/')}"
    return f"curl -fLO {shlex.quote(address)}"


def _has_16_bits(image: Image.Image) -> bool:
    # Of each tile: decoder, box, offset, arguments; the arguments begin with names as RGB;16B.
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(EXIF_ORIENTATION, 1)
    # A damaged EXIF block raises many classes of errors and says nothing about the pixels.
    except Exception:
        return 1


def _cause(source: str | Path | bytes, error: Exception) -> str:
    """Says in words why a picture could not be read."""
    if isinstance(error, OSError) and error.strerror:  # the file could not be opened at all
        hint = how_to_fetch(source)
        return f"is an address, not a file; download it: {hint}" if hint else error.strerror
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
    if size == 0:
        return "is empty (0 bytes)"
    if isinstance(error, Image.UnidentifiedImageError):
        return _unknown_format(source, size)
    if isinstance(error, Image.DecompressionBombError):
        return (
            f"has too many pixels to be decoded safely ({error}); --max-megapixels, or in Python"
            " PIL.Image.MAX_IMAGE_PIXELS, allows more"
        )
    return f"cannot be decoded: {error or type(error).__name__}"


def _unknown_format(source: str | Path | bytes, size: int) -> str:
    if isinstance(source, bytes):
        head = source[:12]
    else:
        with open(source, "rb") as file:
            head = file.read(12)
    brand = head[8:] if head[4:8] == b"ftyp" else b""
    if brand in HEIC_BRANDS and not read_heic():
        return f"is a HEIC image, which needs a package: {install_hint('heif')}"
    if brand in (b"avif", b"avis"):
        return "is an AVIF image, which Pillow reads since 11.3: pip install --upgrade pillow"
    return f"is not an image of a known format ({size} bytes)"
