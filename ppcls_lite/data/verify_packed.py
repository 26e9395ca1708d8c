"""The check of a packed data set: every picture is read, as a tar file and by position."""

import tarfile
from collections.abc import Iterator

import numpy as np

from ppcls_lite.data.dataset import PackedDataset, open_split
from ppcls_lite.data.packed import digest, read_source, shard_file
from ppcls_lite.errors import UserError

SPLITS = ("train", "val")


def verify(out: str) -> int:
    """Reads every picture of a packed folder; prints what is wrong and returns 1, or 0.

    Raises:
        UserError: neither split of it is packed.
    """
    hint = "give --out the folder that was packed"
    problems: list[str] = []
    counted = 0
    for split in SPLITS:
        try:
            dataset = open_split(out, split)
        except UserError as error:
            problems.append(error.message)
            continue
        if not isinstance(dataset, PackedDataset):
            raise UserError(f"{out} is not packed", hint)
        found = list(_problems(dataset))
        counted += 1
        print(f"{split}: {len(dataset)} images read, {len(found)} problems")
        problems += found
    if len(problems) == len(SPLITS) and not counted:
        raise UserError("\n".join(problems), hint)
    for problem in problems:
        print(f"  {problem}")
    if problems:
        print("  next: pack the images again, into a new folder")
    return 1 if problems else 0


def _problems(dataset: PackedDataset) -> Iterator[str]:
    """Compares the shards with the index, as tar files and by position."""
    files = dataset.files
    for number in range(len(files.description["shard_bytes"])):
        shard = shard_file(files.folder, files.split, number)
        try:
            with tarfile.open(shard) as tar:
                members = {info.name: info for info in tar}
                labels = {n: tar.extractfile(members[n]) for n in members if n.endswith(".cls")}
                read = {n: file.read() for n, file in labels.items() if file}
        except (OSError, tarfile.TarError) as error:
            yield f"{shard}: {error}"
            continue
        for index in np.flatnonzero(files.entries["shard"] == number).tolist():
            entry, name = files.entries[index], files.member_name(index)
            info = members.get(name)
            if info is None or (info.offset_data, info.size) != (entry["offset"], entry["size"]):
                yield f"{dataset.path(index)}: is not where the index says"
            elif digest(read_source(files.source(index))) != entry["digest"].tobytes():
                yield f"{dataset.path(index)}: its bytes are not those that were packed"
            elif read.get(f"{index:08d}.cls") != str(entry["label"]).encode():
                yield f"{dataset.path(index)}: its .cls is not the label {entry['label']}"
