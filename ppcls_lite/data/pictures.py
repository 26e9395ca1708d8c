"""Which files of a folder are pictures, and which folders are none of the user's."""

import os
from collections import Counter
from collections.abc import Iterable

from ppcls_lite.data.decode import read_heic, special_file
from ppcls_lite.program import install_hint

# Endings of pictures; the content decides what a file is.
HEIF_EXTENSIONS = (".heic", ".heif")  # of phones; the package pillow-heif reads them
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff",
    ".jp2", ".ppm", ".pgm", *HEIF_EXTENSIONS,
)  # fmt: skip
# What file servers, archivers and desktops leave behind: Synology, QNAP, macOS, Windows, ext4.
# Names that begin with a dot need not be here.
LITTER = frozenset(
    name.casefold()
    for name in (
        "@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "__MACOSX",
        "Network Trash Folder", "Temporary Items", "$RECYCLE.BIN", "System Volume Information",
        "RECYCLER", "found.000", "lost+found", "__pycache__", "Thumbs.db", "ehthumbs.db",
        "desktop.ini", "Icon\r",
    )
)  # fmt: skip


def is_litter(name: str) -> bool:
    """Tells whether a file or folder of this name is hidden, or was left behind by a machine."""
    return name.startswith(".") or name.casefold() in LITTER


def scan_folder(
    folder: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS
) -> tuple[list[str], list[str]]:
    """Returns the pictures in a folder and all below it, and the files passed over; both sorted.

    Args:
        folder: where to look.
        extensions: endings of pictures, in lower case.

    Hidden files and litter are in neither: macOS leaves a `._name.jpg` beside a picture that is
    none. Links to folders are followed, but no folder is entered twice: a link may lead back to
    where it lies. Pipes, sockets and devices are no pictures, whatever their names end in: reading
    one may never end. A link to nothing is a broken picture.
    """
    pictures: list[str] = []
    others: list[str] = []
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        # Sorted: which of two ways to a folder is taken must not depend on the disk.
        folders[:] = sorted(name for name in folders if not is_litter(name))
        special = special_names(parent) if names else frozenset()
        for name in names:
            if not is_litter(name):
                is_picture = name.lower().endswith(extensions) and name not in special
                found = pictures if is_picture else others
                found.append(os.path.join(parent, name))
    return sorted(pictures), sorted(others)


def special_names(folder: str) -> frozenset[str]:
    """Returns the names of pipes, sockets and devices, and of links to such, in a folder."""
    with os.scandir(folder) as entries:  # most file systems tell the kind without a look at each
        return frozenset(e.name for e in entries if not e.is_file() and kind_of(e.path))


def kind_of(path: str) -> str:
    """Says which kind of special file a path or its target is; "" for files, folders, nothing."""
    try:
        return special_file(os.stat(path).st_mode)
    except OSError:
        return ""


def image_files(folder: str) -> list[str]:
    """Returns the pictures in a folder and all below it, see `scan_folder`."""
    return scan_folder(folder)[0]


def readable_extensions() -> tuple[str, ...]:
    """Returns the endings of pictures that can be read here."""
    if read_heic():
        return IMAGE_EXTENSIONS
    return tuple(x for x in IMAGE_EXTENSIONS if x not in HEIF_EXTENSIONS)


def passed_over(files: Iterable[str]) -> str:
    """Says how many files of which endings are not taken for pictures; '' when there is none."""
    counts = Counter(
        kind_of(file) or os.path.splitext(file)[1].lower() or "no ending" for file in files
    )
    if not counts:
        return ""
    kinds = ", ".join(f"{n} {ending}" for ending, n in counts.most_common())
    heif = any(ending in counts for ending in HEIF_EXTENSIONS)
    hint = f"; to read .heic: {install_hint('heif')}" if heif else ""
    return f"passed over, not taken for images: {kinds}{hint}"


def pictures_beside(folder: str) -> list[str]:
    """Returns the pictures that lie in a folder of class folders itself."""
    return sorted(
        os.path.join(folder, entry.name)
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(IMAGE_EXTENSIONS)
        and not is_litter(entry.name)
        and entry.is_file()
    )
