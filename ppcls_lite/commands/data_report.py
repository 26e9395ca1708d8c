"""`data check --report`: pictures and labels that a person should look at."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ppcls_lite.data.copies import cropped_copies
from ppcls_lite.data.dataset import open_split, open_whole
from ppcls_lite.data.each import batched, each
from ppcls_lite.data.overview import alike_classes
from ppcls_lite.data.settings import CheckDataConfig
from ppcls_lite.data.suspects import Finding, Look, look
from ppcls_lite.data.suspects_page import Entry, Whole, write_report
from ppcls_lite.environment import load_paddle
from ppcls_lite.errors import UserError

BATCH = 32  # pictures that the network sees at a time


def write_findings(config: CheckDataConfig) -> str:
    """Writes --report: pictures of all splits that a person should look at; returns a summary."""
    pictures: list[Entry] = []
    whole = open_whole(config.data_path)
    for split in ("all",) if whole else ("train", "val"):
        try:
            dataset = whole or open_split(config.data_path, split)
        except UserError:
            continue  # `check` has said so
        for i, source in enumerate(dataset.sources()):
            name = dataset.classes[dataset.label(i)]
            pictures.append(Entry(split, name, dataset.path(i), source))
    looks, said = _looked_at(pictures, config.workers)
    return write_report(Path(config.report or ""), pictures, looks, said, config.data_path)


def _looked_at(pictures: Sequence[Entry], workers: int) -> tuple[list[Look | None], Whole]:
    """What each picture is like, and labels to look at; each picture is decoded once for both."""
    load_paddle()
    from ppcls_lite.engine.doubtful import Features

    network = Features()
    looks: list[Look | None] = []
    features: list[np.ndarray] = []
    found = each(partial(look, specs=network.specs), [x.source for x in pictures], workers)
    for part in batched(found, BATCH):
        views = [x.views for x in part if x is not None and x.views is not None]
        if views:
            features.append(network(np.stack(views)))
        looks += [x and x._replace(views=None) for x in part]  # 300 kB each
    readable = [i for i, x in enumerate(looks) if x is not None]
    if not readable:
        return looks, Whole()
    every = np.concatenate(features)  # [readable, D]
    sources = [pictures[i].source for i in readable]
    crops = [(readable[a], readable[b], x) for a, b, x in cropped_copies(sources, every)]
    return looks, _doubts(pictures, readable, every)._replace(crops=crops)


def _doubts(pictures: Sequence[Entry], readable: Sequence[int], features: np.ndarray) -> Whole:
    """Labels to look at, and classes; `features` [N, D] are those of the readable pictures."""
    from ppcls_lite.engine.doubtful import doubtful, out_of_fold

    names = sorted({pictures[i].label for i in readable})
    if len(names) < 2:
        return Whole()
    y = np.array([names.index(pictures[i].label) for i in readable])
    p = out_of_fold(features, y, len(names))
    doubts, guesses = [], {}
    for i, chance in zip(*doubtful(p, y), strict=True):
        guess = names[int(np.where(np.arange(len(names)) == y[i], -1, p.each[i]).argmax())]
        says = f"labelled {names[y[i]]}, looks like {guess}: decide"
        doubts.append(Finding("label", readable[i], None, float(chance), says))
        guesses[readable[i]] = guess
    pairs = alike_classes(p.each, y)
    alike = [(names[x.first], names[x.second], x.wrong, x.pictures) for x in pairs]
    return Whole(doubts, guesses, alike)
