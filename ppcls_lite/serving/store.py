"""The networks of a worker: found in folders, tried before use, replaced while requests go on."""

import contextlib
import dataclasses
import importlib.util
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.data.classes import match_names
from ppcls_lite.deploy.choose import ENGINES, find_model
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.sidecar import SIDECAR, read_sidecar
from ppcls_lite.errors import UserError, nearest, some
from ppcls_lite.program import export_command
from ppcls_lite.serving import metrics
from ppcls_lite.serving.compute import Batcher, ComputeThread
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.settings import ServeConfig

LOG = logging.getLogger("ppcls_lite.serving")
Key = tuple[str, str]  # name and version of a model
Signature = tuple[tuple[str, int, int, int], ...]
MODULES = {"dygraph": "paddle", "paddle_inference": "paddle"}  # others: their name


@dataclass(frozen=True)
class Served:
    """One network on one engine, ready to answer."""

    name: str
    version: str
    predictor: Predictor
    infer: Batcher

    @property
    def is_ranked(self) -> bool:
        """Its answers are ranked classes, not what a postprocess of the user's own returns."""
        return self.predictor.postprocess is None

    @property
    def input_shape(self) -> list[int]:
        """Shape of the input: [-1, 3, H, W]."""
        size = self.predictor.info.preprocess.crop_size
        return [-1, 3, size, size]


@dataclass
class Entry:
    """One version of a model.

    Attributes:
        signature: of the folder's files when they were read.
        engines: by engine; the first is taken when a request names none.
        missed: looks in a row that did not find the folder.
    """

    signature: Signature
    engines: dict[str, Served]
    loaded_at: float = field(default_factory=time.time)
    missed: int = 0


class Store:
    """All networks of a folder.

    Args:
        config: names the folder and the engines.
        thread: where the networks run.
        hooks: of the user: may have `preprocess` and `postprocess`.
    """

    def __init__(self, config: ServeConfig, thread: ComputeThread, hooks: Any = None) -> None:
        names = ("preprocess", "postprocess")
        self._hooks: dict[str, Any] = {name: getattr(hooks, name, None) for name in names}
        self._config = config
        self._thread = thread
        self._entries: dict[Key, Entry] = {}
        self._settling: dict[Key, Signature] = {}
        self._failed: dict[Key, Signature] = {}

    def load(self, successor: bool = False) -> None:
        """Reads every folder and runs every network once.

        Args:
            successor: of a worker that died: what was damaged since the start of the server is
                logged and left out until it is whole again, as long as there is something to serve.

        Raises:
            UserError: one of them cannot be served.
        """
        failure: Exception | None = None
        for key, folder in find_folders(Path(self._config.exported)).items():
            try:
                self._entries[key] = self._read(key, folder)
            except Exception as error:  # as in `_renew`
                if not successor:
                    raise
                failure = error
                with contextlib.suppress(OSError):
                    self._failed[key] = signature_of(folder)
                LOG.error("%s version %s is left out until it is whole again: %s", *key, error)
        if failure is not None and not self._entries:
            raise failure

    def refresh(self) -> None:
        """Looks for changed, new and vanished folders; what serves goes on until its successor can.

        A folder is read when its files have stayed the same between two looks. One that cannot be
        read is logged, once, and its predecessor stays.
        """
        try:
            found = find_folders(Path(self._config.exported))
        except (UserError, OSError) as error:  # in the middle of being replaced, or gone
            LOG.warning("reload: %s", error)
            return
        for key, folder in found.items():
            self._renew(key, folder)
        for key in [key for key in self._entries if key not in found]:
            self._entries[key].missed += 1
            if self._entries[key].missed > 1 and len(self._entries) > 1:
                entries = dict(self._entries)
                del entries[key]
                self._entries = entries
                LOG.info("reload: %s version %s is gone", *key)

    def _renew(self, key: Key, folder: Path) -> None:
        entry = self._entries.get(key)
        try:
            signature = signature_of(folder)
        except OSError:  # a file vanished between listing and looking
            return
        if entry is not None:
            entry.missed = 0
            if entry.signature == signature:
                return
        if self._failed.get(key) == signature:
            return
        if self._settling.get(key) != signature:
            self._settling[key] = signature
            return
        try:
            fresh = self._read(key, folder)
        # Engines raise classes of their own for files they cannot read.
        except Exception as error:
            self._failed[key] = signature
            metrics.RELOADS.labels("failed").inc()
            LOG.error("reload: %s version %s stays as it was: %s", *key, error)
            return
        if entry is not None:
            _warn_of_other_classes(key, entry, fresh)
        # A new dictionary, not a changed one: requests on other threads may be looking into it.
        self._entries = {**self._entries, key: fresh}
        metrics.RELOADS.labels("done").inc()
        LOG.info("reload: %s version %s was read from %s", *key, folder)

    def _read(self, key: Key, folder: Path) -> Entry:
        config, most = self._config, self._config.max_batch
        signature = signature_of(folder)  # before reading: a later change must show
        engines = engines_of(folder, most) if config.engine == "all" else [config.engine]
        served: dict[str, Served] = {}
        for engine in engines:
            predictor = Predictor(folder, engine, config.device, batch_size=most, **self._hooks)
            if predictor.note:
                LOG.warning("%s", predictor.note)
            delay = config.batch_delay_ms / 1000
            batcher = Batcher(predictor, key[0], self._thread, most, delay)
            served[predictor.engine] = Served(*key, predictor, batcher)
            _warm_up(predictor, most)
        return Entry(signature, served)

    def find(self, name: str | None, version: str | None, engine: str | None = None) -> Served:
        """Returns the network that a request means.

        Args:
            name: None takes the first by name.
            version: None takes the newest.
            engine: None takes the model's first.

        Raises:
            RequestError: there is none.
        """
        entries = self._entries
        names = sorted({known for known, _ in entries})
        if name is None:
            name = names[0]
        if name not in names:
            raise RequestError("not_found", _unknown("model", name, names))
        versions = sorted((v for n, v in entries if n == name), key=int)
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise RequestError("not_found", _unknown(f"version of {name}", version, versions))
        engines = entries[name, version].engines
        if engine is None:
            return next(iter(engines.values()))
        if engine not in engines:
            raise RequestError("not_found", _unknown(f"engine of {name}", engine, list(engines)))
        return engines[engine]

    def __iter__(self) -> Iterator[tuple[Key, Entry]]:
        """Every version of every model, sorted."""
        entries = self._entries
        yield from sorted(entries.items(), key=lambda item: (item[0][0], int(item[0][1])))


def _warn_of_other_classes(key: Key, before: Entry, after: Entry) -> None:
    """Says so when an id of the answers means another class than it did."""
    sets = [next(iter(e.engines.values())).predictor.info.class_set("") for e in (before, after)]
    old, new = (dataclasses.replace(s, who=w) for s, w in zip(sets, ("before", "now"), strict=True))
    match = match_names(old, new)
    if not match.is_identity and old.names and new.names:
        names = [new.name(i) for i, k in enumerate(match.ids) if k != i] or list(match.lacking)
        LOG.warning("reload: %s version %s has other classes: %s", *key, some(names))


def find_folders(root: Path) -> dict[Key, Path]:
    """Returns the export folders that a folder means: itself, NAME/ or NAME/VERSION/.

    Raises:
        UserError: it holds none.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}", export_command(root))
    if _is_export(root):
        sidecar = read_sidecar(root)
        name = sidecar.info.name if sidecar else root.resolve().name
        return {(name, "1"): root}
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if _is_export(folder):
            found[folder.name, "1"] = folder
            continue
        for version in folder.iterdir():
            if version.name.isascii() and version.name.isdigit() and _is_export(version):
                found[folder.name, version.name] = version
    if not found:
        raise UserError(
            f"{root} is no export folder and holds none (looked for {SIDECAR} in it, in NAME/ and"
            " in NAME/VERSION/)",
            export_command(root),
        )
    return found


def _is_export(folder: Path) -> bool:
    return any(
        (folder / name).is_file() for name in (SIDECAR, "inference.onnx", "inference.pdmodel")
    )


def signature_of(folder: Path) -> Signature:
    """Returns what changes when a file of a folder is written or replaced."""
    rows = []
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        stat = file.stat()
        rows.append((file.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(rows)


def engines_of(folder: Path, batch_size: int) -> list[str]:
    """Returns the installed engines that can run a folder's files, the one of `auto` first.

    Raises:
        UserError: there is none.
    """
    engines = [find_model(folder, batch_size=batch_size).engine]
    for engine in ENGINES[1:]:  # without auto
        if importlib.util.find_spec(MODULES.get(engine, engine)) is None:
            continue
        try:
            engines.append(find_model(folder, engine).engine)
        except UserError:
            continue  # no file for it
    return list(dict.fromkeys(engines))


def _warm_up(predictor: Predictor, max_batch: int) -> None:
    """Runs a network on empty pictures: kernels are made ready, and it is known to answer."""
    size = predictor.info.preprocess.crop_size
    for count in sorted({1, max_batch}):
        probs = predictor.probabilities(np.zeros((count, 3, size, size), np.float32))
        if probs.shape != (count, predictor.info.num_classes) or not np.isfinite(probs).all():
            raise UserError(
                f"{predictor.info.name} on {predictor.engine} answers {list(probs.shape)} numbers"
                f" to {count} empty images, not finite [{count}, {predictor.info.num_classes}]",
                "export the model again",
            )


def _unknown(what: str, given: str, known: list[str]) -> str:
    return f"no {what} {given!r}; there is {', '.join(known)}{nearest(given, known)}"
