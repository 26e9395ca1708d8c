"""`data pack`: a data folder as a few large tar files, and the check of such files."""

import functools
import hashlib
import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls_lite.data.dataset import (
    SAME_CLASSES,
    ImageDataset,
    PackedDataset,
    open_split,
)
from ppcls_lite.data.decode import ImageError, open_image
from ppcls_lite.data.jpeg import resized
from ppcls_lite.data.packed import (
    ENTRY,
    Source,
    description_file,
    digest,
    read_source,
    shard_file,
)
from ppcls_lite.data.settings import PackDatasetConfig
from ppcls_lite.data.verify_packed import SPLITS, verify
from ppcls_lite.data.watch import dead_worker
from ppcls_lite.data.workers import worker_pool
from ppcls_lite.errors import UserError, some
from ppcls_lite.files import naming, readable, write_atomically
from ppcls_lite.program import command, quoted
from ppcls_lite.untrusted import read_json, reading


def run(config: PackDatasetConfig) -> int:
    """Packs or verifies; returns 1 when verifying found problems.

    Raises:
        UserError: a picture cannot be read, or the folder holds something else already.
    """
    config.require("out")
    if config.verify:
        return verify(config.out)
    datasets = {split: open_split(config.data_path, split) for split in SPLITS}
    known = datasets["train"].class_set("train")
    datasets["val"], _ = datasets["val"].matched(known, "val", SAME_CLASSES)
    for split, dataset in datasets.items():
        if isinstance(dataset, PackedDataset):
            raise UserError(f"{config.data_path} is packed already", "pack the original folder")
        pack(dataset, split, config)
    print("next: " + command("data pack", "--out", config.out, "--verify"))
    return 0


def pack(dataset: ImageDataset, split: str, config: PackDatasetConfig) -> None:
    """Writes the shards of a split that are not there yet, then what describes them.

    Raises:
        UserError: a picture is broken, or lies elsewhere and `config.follow_links` is not set.
    """
    if not config.follow_links:
        check_links(dataset, config)
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    names = [os.path.relpath(dataset.path(i), config.data_path) for i in range(len(dataset))]
    plan = {
        "format": 1,
        "short_side": config.short_side,
        "quality": config.quality if config.short_side else None,
        "shard_size": config.shard_size,
        "pictures": len(dataset),
        "classes": dataset.classes,
        "sources": _fingerprint(dataset, names),
    }
    if _is_complete(folder, split, plan):
        print(f"{split}: packed already")
        return
    # The same order in every run, so that a stopped one can go on.
    order = np.random.default_rng(0).permutation(len(dataset))
    shards = -(-len(dataset) // config.shard_size)
    with _mapper(config.workers) as mapper:
        for number in range(shards):
            shard = shard_file(folder, split, number)
            if shard.is_file():
                continue
            mine = order[number * config.shard_size :][: config.shard_size]
            shrink = functools.partial(
                packed_picture, short_side=config.short_side, quality=config.quality
            )
            pictures = mapper(shrink, [dataset.source(int(i)) for i in mine])
            entries = write_shard(shard, number, mine, dataset, pictures, config.data_path)
            print(f"{shard}: {len(mine)} images, {entries['size'].sum() / 1e6:.1f} MB")
    parts = [_entries_of(folder, split, number) for number in range(shards)]
    entries = np.empty(len(dataset), ENTRY)
    entries[order] = np.concatenate(parts)
    description = description_file(folder, split)
    write_atomically(description.with_suffix(".npy"), _npy(entries))
    packed_names = np.array([os.fsencode(name) for name in names])
    write_atomically(description.with_suffix(".names.npy"), _npy(packed_names))
    sizes = [shard_file(folder, split, number).stat().st_size for number in range(shards)]
    write_atomically(description, json.dumps(plan | {"shard_bytes": sizes}, indent=1).encode())
    _plan_file(folder, split).unlink()
    for number in range(shards):
        _part(folder, split, number).unlink()


def check_links(dataset: ImageDataset, config: PackDatasetConfig) -> None:
    """Raises UserError when a picture is not in the data root, but a link or a list leads to it.

    Whoever made the data set may not know what lies there, and whoever packs it may not want it in
    a file that is handed on.
    """
    root = os.path.realpath(config.data_path)
    folder = functools.cache(os.path.realpath)
    outside = []
    for index in range(len(dataset)):
        path = dataset.path(index)
        parent, name = os.path.split(path)
        real = os.path.realpath(path) if os.path.islink(path) else f"{folder(parent)}/{name}"
        if not real.startswith(root.rstrip("/") + "/"):
            outside.append(f"{readable(path)} is {readable(real)}")
    if outside:
        raise UserError(
            f"{len(outside)} images lie outside of {config.data_path}: {some(outside, 3)}",
            command("data pack", "--data-path", config.data_path, "--out", config.out)
            + " --follow-links packs them, too",
        )


def packed_picture(source: Source, short_side: int | None, quality: int) -> tuple[bytes, str]:
    """Returns what is packed of a picture: its bytes and their suffix.

    Raises:
        ImageError: it cannot be read.
    """
    data = read_source(source)
    suffix = Path(str(source)).suffix.lower()
    if short_side is None:
        return data, suffix
    image = open_image(data)
    width, height = image.size
    if min(width, height) <= short_side:
        return data, suffix  # shrinking only ever loses
    factor = short_side / min(width, height)
    size = round(width * factor), round(height * factor)
    pixels = resized(image, (0, 0, width, height), size, "bicubic")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality)
    return buffer.getvalue(), ".jpg"


def write_shard(
    shard: Path,
    number: int,
    indices: np.ndarray,
    dataset: ImageDataset,
    pictures: Iterable[tuple[bytes, str]],
    data_path: str,
) -> np.ndarray:
    """Writes one tar file, which is there as a whole or not at all; returns its `ENTRY`s."""
    entries = np.empty(len(indices), ENTRY)
    part = shard.with_name(f".{shard.name}.part")
    packed = iter(pictures)
    with naming(shard), tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, index in enumerate(indices.tolist()):
            try:
                data, suffix = next(packed)
            except ImageError as error:
                raise UserError(
                    f"broken image {dataset.path(index)}: {error.cause}",
                    command("data check", "--data-path", data_path)
                    + "  # lists every broken image; remove them, then again",
                ) from None
            label = dataset.label(index)
            offset = tar.offset + tarfile.BLOCKSIZE
            _add(tar, f"{index:08d}{suffix}", data)
            _add(tar, f"{index:08d}.cls", str(label).encode())
            entries[row] = (number, label, offset, len(data), digest(data))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    # The shard comes last: where it is, its entries are.
    split = shard.name.rpartition("-")[0]
    write_atomically(_part(shard.parent, split, number), _npy(entries))
    os.replace(part, shard)
    return entries


def _fingerprint(dataset: ImageDataset, names: list[str]) -> str:
    """Changes with the files, their sizes and their labels."""
    state = hashlib.sha256()
    for index, name in enumerate(names):
        path = dataset.path(index)
        size = os.path.getsize(path) if os.path.exists(path) else -1
        state.update(f"{name}\0{size}\0{dataset.label(index)}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def _is_complete(folder: Path, split: str, plan: dict[str, Any]) -> bool:
    """Whether the split is packed as planned; notes the plan if nothing was begun.

    Raises:
        UserError: the folder holds another data set, or the same one packed in another way.
    """
    for file in (description_file(folder, split), _plan_file(folder, split)):
        if not file.is_file():
            continue
        found = read_json(file, "plan of packed data", f"rm {file}, and again")
        differs = [key for key in plan if found.get(key) != plan[key]]
        if differs:
            raise UserError(
                f"{file}: was packed with another {', '.join(differs)}",
                f"give --out another folder, or remove {folder}",
            )
        return file == description_file(folder, split)
    write_atomically(_plan_file(folder, split), json.dumps(plan).encode())
    return False


def _plan_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.plan.json"


def _entries_of(folder: Path, split: str, number: int) -> np.ndarray:
    """The entries of a shard that is packed, by this run or one before."""
    part, shard = _part(folder, split, number), shard_file(folder, split, number)
    with reading(part, "entries of a shard", f"rm {quoted(str(shard))}, and again"):
        entries = np.load(part, allow_pickle=False)
        if entries.dtype != ENTRY or entries.ndim != 1:
            raise ValueError(f"{entries.dtype} {list(entries.shape)}")
        return entries


def _part(folder: Path, split: str, number: int) -> Path:
    """The entries of a shard while the others are not there yet."""
    return shard_file(folder, split, number).with_suffix(".npy")


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Appends a file; a TarInfo's own owner, mode and time are constants."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    """A `map` that keeps the order, over processes if there are any."""
    if workers == 0:
        yield map
        return
    pool = worker_pool(workers)
    try:
        yield functools.partial(_bounded_map, pool, 8 * workers)
    except BrokenProcessPool as error:
        raise dead_worker() from error
    finally:
        pool.shutdown(cancel_futures=True)


def _bounded_map(pool: Any, ahead: int, function: Any, items: Iterable[Any]) -> Iterator[Any]:
    """Like `pool.map`, but with at most `ahead` results waiting: a shard need not fit in memory."""
    items = iter(items)
    running = [pool.submit(function, item) for item in itertools.islice(items, ahead)]
    while running:
        done = running.pop(0)
        running += [pool.submit(function, item) for item in itertools.islice(items, 1)]
        yield done.result()
