"""Archives of pictures as they were downloaded: the command that unpacks one, and where to."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Sequence

from ppcls_lite.data.pictures import is_litter
from ppcls_lite.program import quoted

# As image-net.org has them: where they belong.
TARS_OF_IMAGENET = {"ILSVRC2012_img_train": "train", "ILSVRC2012_img_val": "val"}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


def unpack_command(archive: str, splits: Sequence[str]) -> str:
    """The command that unpacks an archive, and where its pictures are then; "" when it is none.

    Args:
        archive: its path.
        splits: what the folders of splits are called.
    """
    folder, name = os.path.split(archive)
    stem, extension = archive_parts(name)
    if not stem:
        return ""
    tops, root = _top_folders(archive), folder
    top = tops[0] if tops else ""
    if stem in TARS_OF_IMAGENET:
        folder = os.path.join(folder, TARS_OF_IMAGENET[stem])
    elif stem in splits and top not in ("", stem):
        folder = os.path.join(folder, stem)  # class folders at its top
    elif len(tops) > 1 and not set(splits) & set(tops):  # the same, of one folder without splits
        root = folder = os.path.join(folder, stem)
    elif top and top not in splits:
        root = os.path.join(folder, top)
    file, into = quoted(archive), quoted(folder or ".")
    make = "" if os.path.isdir(folder or ".") else f"mkdir -p {into} && "
    if extension == ".zip":
        unpack = f"python -m zipfile -e {file} {into}"
    else:
        unpack = f"{make}tar -C {into} -xf {file}"
    if stem == "ILSVRC2012_img_train":  # 1,000 tars, one a class
        unpack += (
            f' && for t in {into}/*.tar; do mkdir "${{t%.tar}}" && tar -C "${{t%.tar}}" -xf "$t" &&'
            ' rm "$t"; done'
        )
    return f"{unpack}  # then --data-path {quoted(root or '.')}"


def archive_parts(name: str) -> tuple[str, str]:
    """The name of an archive and its ending; both "" when it is none."""
    ending = next((e for e in ARCHIVES if name.lower().endswith(e)), "")
    return (name[: -len(ending)], ending) if ending else ("", "")


def _top_folders(archive: str) -> list[str]:
    """The folders at the top of a zip; of a tar, which has no table, that of its first file."""
    try:
        if archive.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                names = packed.namelist()
        else:
            with tarfile.open(archive) as tar:
                first = tar.next()
                names = [first.name + "/" * first.isdir()] if first else []
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error):
        return []
    tops = (name.removeprefix("./").partition("/") for name in names)
    return list(dict.fromkeys(top for top, slash, _ in tops if slash and not is_litter(top)))
