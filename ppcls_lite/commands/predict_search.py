"""`predict search`: the pictures of a gallery that are most like others."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.commands.predict_embed import embed, rows_of
from ppcls_lite.data.decode import REMEDY, ImageError
from ppcls_lite.data.preprocess import find_images
from ppcls_lite.data.suspects_page import Entry, figure, unseen
from ppcls_lite.deploy.classify import open_predictor
from ppcls_lite.deploy.features import Features, Gallery, read_features
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.settings import SearchConfig
from ppcls_lite.engines import import_engine
from ppcls_lite.errors import UserError
from ppcls_lite.files import readable
from ppcls_lite.page import write_page
from ppcls_lite.program import command


def run(config: SearchConfig) -> int:
    """Prints the nearest pictures; returns 1 when a picture could not be read, else 0."""
    config.require("gallery", "img_path", "pretrained")
    if config.index:
        import_engine("faiss", "faiss-cpu")  # before minutes of work
    predictor = open_predictor(config)
    queries = find_images(config.img_path)
    gallery, failed = _open_gallery(config, predictor)
    known = Gallery(gallery.features, config.index)
    sections = []
    for query in queries:
        try:
            (vector,) = predictor.embed(query)
        except ImageError as error:
            failed.append(error.message)
            continue
        rows, cosines = known.nearest(vector, config.topk)
        print(readable(str(query)))
        for row, cosine in zip(rows, cosines, strict=True):
            name = gallery.class_name(row)
            print(f"  {cosine:.4f}  {readable(str(gallery.paths[row]))}{name and f'  {name}'}")
        print(flush=True)
        if config.html is not None:
            sections.append(_section(query, gallery, rows, cosines))
    if config.html is not None:
        write_page(Path(config.html), "found.html", title="Nearest images", queries=sections)
        print(f"search: {config.html} shows them", file=sys.stderr)
    for cause in failed:
        print(f"search: {cause}", file=sys.stderr)
    if failed:
        print(f"search: {len(failed)} images failed\n  next: {REMEDY}", file=sys.stderr)
    return 1 if failed else 0


def _open_gallery(config: SearchConfig, predictor: Predictor) -> tuple[Features, list[str]]:
    path = Path(config.gallery)
    if path.is_dir():
        gallery, failed = embed(predictor, list(rows_of(config.gallery)))
    else:
        gallery, failed = read_features(path), []
        if str(gallery.network) != predictor.weights_sha256:
            raise UserError(
                f"{path} holds features of other weights than {config.pretrained}",
                command("predict embed", "--pretrained", config.pretrained)
                + " --data-path DATA --out features.npz  # or name the weights they are of",
            )
    if not len(gallery.features):
        raise UserError(
            f"{path}: no image in it can be read", "give --gallery a folder with images"
        )
    return gallery, failed


def _section(
    query: Path, gallery: Features, rows: np.ndarray, cosines: np.ndarray
) -> list[dict[str, Any]]:
    """A query and what was found, for the page."""
    shown = [("looked for", Entry("", "", str(query), str(query)))]
    for row, cosine in zip(rows, cosines, strict=True):
        path = str(gallery.paths[row])
        entry = Entry(str(gallery.splits[row]), gallery.class_name(row), path, path)
        shown.append((f"{cosine:.4f}", entry))
    return [_shown(*each) for each in shown]


def _shown(words: str, entry: Entry) -> dict[str, Any]:
    try:
        return figure(entry, words)
    except (OSError, ImageError):  # a gallery's .npz may outlive its pictures
        return {"picture": "", "note": f"{words}, not readable"} | unseen(entry)
