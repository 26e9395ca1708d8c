"""`accelerator valprep`: ImageNet's flat val/ sorted into class folders."""

from pathlib import Path

from ppcls_lite.accelerator.labels import read_two_fields
from ppcls_lite.accelerator.settings import ValprepConfig
from ppcls_lite.data.imagenet import imagenet_synsets
from ppcls_lite.errors import UserError


def run(config: ValprepConfig) -> int:
    """Moves val/X.JPEG to val/WNID/X.JPEG; what was moved before stays where it is."""
    root = Path(config.data_path)
    labels, val = root / "val_label.txt", root / "val"
    for path in (labels, val):
        if not path.exists():
            raise UserError(f"no {path}", "give --data_path a folder with val/ and val_label.txt")
    ids = read_two_fields(labels)
    wnids = list(imagenet_synsets())
    if ids is None or max(ids.values(), default=0) >= len(wnids):
        raise UserError(
            f"{labels}: allowed are lines `FILE ID` with ids below {len(wnids)}",
            "mend these lines, or take the val_label.txt of the documents",
        )
    flat = sorted(path for path in val.iterdir() if path.is_file())
    unknown = [path.name for path in flat if path.name.partition(".")[0] not in ids]
    if unknown:
        raise UserError(
            f"{labels} does not list {len(unknown)} files of {val}, such as {unknown[0]}",
            "add their lines to the list, or move these files elsewhere",
        )
    for wnid in wnids:  # empty ones, too: the position of a folder is its class id
        (val / wnid).mkdir(exist_ok=True)
    for path in flat:
        path.rename(val / wnids[ids[path.name.partition(".")[0]]] / path.name)
    present = sum(1 for wnid in wnids for _ in (val / wnid).iterdir())
    print(f"{val}: {len(flat)} images moved, {present} in {len(wnids)} class folders")
    if present != len(ids):
        raise UserError(
            f"{labels} lists {len(ids)} images, {val} has {present}",
            f"copy the missing images into {val}, then run this again",
        )
    return 0
