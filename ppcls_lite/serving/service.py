"""What every way into a worker shares: the models, the limits, the key, the answers."""

import asyncio
import hmac
import logging
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ppcls_lite.deploy.explain import Explanation
from ppcls_lite.deploy.hooks import load_hooks, network_input
from ppcls_lite.deploy.predictor import Predictor
from ppcls_lite.deploy.ranking import probabilities
from ppcls_lite.errors import UserError
from ppcls_lite.serving import kserve, metrics
from ppcls_lite.serving.compute import ComputeThread, decode
from ppcls_lite.serving.gallery import ServedGallery
from ppcls_lite.serving.problems import RequestError
from ppcls_lite.serving.settings import ServeConfig
from ppcls_lite.serving.store import Served, Store
from ppcls_lite.serving.upload import Memory, check_limits

LOG = logging.getLogger("ppcls_lite.serving")
LONGEST_KEY = 1024  # bytes of the file
LARGE_BODY = 2**20  # bytes; a smaller one is parsed in a few milliseconds
Result = TypeVar("Result")


class Service:
    """One worker's models, and who may use them.

    Args:
        config: of the server.
        hooks: pre- and postprocessing, as `load_hooks` returns them; None loads the config's.

    Raises:
        UserError: the key's file or the hooks cannot be used, or the limits contradict each other.
    """

    def __init__(self, config: ServeConfig, hooks: Any = None, successor: bool = False) -> None:
        self.config = config
        self._successor = successor
        self.thread = ComputeThread()
        if hooks is None and config.hooks is not None:
            hooks = load_hooks(config.hooks)
        self.store = Store(config, self.thread, hooks)
        self.gallery = None if config.gallery is None else ServedGallery(config.gallery)
        self.ready = False
        check_limits(config)
        self.memory = Memory(config.request_memory)
        self._key = read_key(config.api_key_file)
        self._held = 0
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads and tries all models; only then the worker is ready.

        Raises:
            UserError: one of them cannot be served.
        """
        metrics.forget_dead_workers()
        begin = time.perf_counter()
        await asyncio.to_thread(self.store.load, self._successor)
        self.ready = True
        if self.config.reload_seconds:
            self._watcher = asyncio.create_task(self._watch())
        names = [f"{name} version {version}" for (name, version), _ in self.store]
        LOG.info("ready after %.1f s: %s", time.perf_counter() - begin, ", ".join(names))

    async def stop(self) -> None:
        """Ends the watching and the compute thread, after the last request."""
        self.ready = False
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.to_thread(self.thread.close)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.config.reload_seconds)
            try:
                await asyncio.to_thread(self.store.refresh)
            except Exception:  # a worker that stopped looking would serve old networks for ever
                LOG.exception("reload: looking for changes failed")

    def check_key(self, authorization: str) -> None:
        """Raises RequestError when a key is needed and `Bearer KEY` does not carry it."""
        given = authorization.encode("utf-8", "surrogateescape")
        # In constant time: its length must not tell how much of a guess is right.
        if self._key is not None and not hmac.compare_digest(given, b"Bearer " + self._key):
            raise RequestError(
                "no_key", "the header `Authorization: Bearer KEY` is missing or wrong"
            )

    @contextmanager
    def slot(self) -> Iterator[Callable[[], None]]:
        """Holds one of the worker's places for requests; what it gives frees the place earlier.

        Raises:
            RequestError: all are taken.
        """
        if self._held >= self.config.max_concurrency:
            raise RequestError(
                "overloaded", f"{self._held} requests are under way; try again in a second"
            )
        self._held += 1
        metrics.IN_PROGRESS.inc()
        held = True

        def free() -> None:
            nonlocal held
            if held:
                held = False
                self._held -= 1
                metrics.IN_PROGRESS.dec()

        try:
            yield free
        finally:
            free()

    async def parse(self, size: int, parser: Callable[[], Result]) -> Result:
        """Runs a parser of `size` bytes; of a large body in the compute thread's turn.

        So the event loop goes on, and no two large bodies are unpacked at a time.

        Raises:
            RequestError: by the parser.
        """
        return parser() if size <= LARGE_BODY else await self.thread.run(parser)

    async def infer(self, served: Served, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Images [N, 3, H, W] -> probabilities [N, K]; `make` runs on the compute thread."""
        return await served.infer(make)

    async def outputs(
        self, served: Served, images: np.ndarray | list[bytes], names: list[str]
    ) -> dict[str, np.ndarray]:
        """KServe's outputs of these names, see `kserve`.

        Args:
            served: the model.
            images: float32 [N, 3, H, W], or files of images.
            names: as `kserve.outputs_of` returns them.

        Raises:
            RequestError: one of them is no image, numbers overflow, or there are no features.
        """
        predictor = served.predictor

        def make() -> np.ndarray:
            if isinstance(images, np.ndarray):
                return images
            read = [self._see(predictor, images, number) for number in range(len(images))]
            return network_input(read, predictor.info)

        probs, features = await self.with_features(served, make, kserve.FEATURES in names)
        kserve.check_answer(probs)
        found = {kserve.OUTPUT: probs}
        if features is not None:
            found[kserve.FEATURES] = features
        if kserve.UNKNOWN in names:
            found[kserve.UNKNOWN] = np.array(predictor.info.unknown(probs), bool)  # [N]
        return {name: found[name] for name in names}

    async def with_features(
        self, served: Served, make: Callable[[], np.ndarray], asked: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """`infer`, and where features are asked for, they too, [N, D]: in a run of its own.

        Raises:
            RequestError: by `make`; the served file has no features, see `Predictor.embed`.
        """
        if not asked:
            return await self.infer(served, make), None
        try:
            return await self.thread.run(lambda: _both(served.predictor, make()))
        except UserError as error:
            raise RequestError("bad_body", f"features: {error.message}") from error

    async def classify(
        self, served: Served, pictures: list[bytes], topk: int, features: bool = False
    ) -> tuple[list[Any], list[np.ndarray], np.ndarray | None]:
        """Images -> the answer to each, what `Predictor.see` made of each, and features [N, D].

        The features are computed where they are asked for, else None.

        Pre- and postprocessing run on the compute thread: never two at a time.

        Raises:
            RequestError: one of them is no image; it names which.
        """
        predictor = served.predictor
        seen: list[np.ndarray] = []

        def make() -> np.ndarray:
            seen.extend(self._see(predictor, pictures, number) for number in range(len(pictures)))
            return network_input(seen, predictor.info)

        probs, found = await self.with_features(served, make, features)
        if served.is_ranked:
            answers = predictor.rank(probs, topk)
        else:
            answers = await self.thread.run(lambda: predictor.answers(probs, topk))
        return answers, seen, found

    async def explain(
        self, served: Served, pictures: list[bytes], topk: int, features: bool = False
    ) -> tuple[list[Explanation], list[np.ndarray], np.ndarray | None]:
        """Images -> where the model sees its answer, and the rest as `classify`, of the same run.

        One by one, as it may take 50 runs: other requests have their turns in between.

        Raises:
            RequestError: one of them is no image; it names which. The ONNX file was replaced.
        """
        predictor = served.predictor
        seen: list[np.ndarray] = []

        def why(number: int) -> Explanation:
            seen.append(self._see(predictor, pictures, number))
            try:
                (found,) = predictor.explain_seen(seen[-1:], topk)
                if features:
                    none = found.features is None
                    vectors.append(predictor.embed_seen(seen[-1:])[0] if none else found.features)
            except UserError as error:
                raise RequestError("bad_body", f"explain: {error.message}") from error
            return found

        vectors: list[Any] = []
        whys = [await self.thread.run(partial(why, number)) for number in range(len(pictures))]
        return whys, seen, np.array(vectors) if features else None

    def _see(self, predictor: Predictor, pictures: list[bytes], number: int) -> np.ndarray:
        try:
            return decode(pictures[number], predictor, self.config.max_megapixels)
        except RequestError as error:
            which = f"image {number + 1} of {len(pictures)}: " if len(pictures) > 1 else ""
            raise RequestError(error.kind, which + error.message) from error


def _both(predictor: Predictor, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 3, H, W] -> probabilities [N, K], features [N, D].

    One run, where the engine that answers gives the features, too: dygraph, ONNX Runtime.
    """
    output, features = predictor.with_features(images)
    if predictor.engine not in ("dygraph", "onnxruntime") or predictor.tta != "none":
        return predictor.probabilities(images), features
    return output if predictor.has_softmax else probabilities(output, predictor.info), features


def read_key(file: str | None) -> bytes | None:
    """Returns the key in a file, without the line's end; None without a file.

    Raises:
        UserError: it is missing, empty, or cannot be a header's value.
    """
    if file is None:
        return None
    hint = f"openssl rand -hex 32 > {shlex.quote(file)}"
    path = Path(file)
    try:
        if path.is_file() and path.stat().st_size > LONGEST_KEY:
            raise UserError(
                f"--api-key-file {file} has {path.stat().st_size:,} bytes; allowed: {LONGEST_KEY}",
                hint,
            )
        key = path.read_bytes().strip() if path.is_file() else b""
    except OSError as error:
        raise UserError(f"--api-key-file {file}: {error.strerror}", hint) from error
    if not key:
        raise UserError(f"--api-key-file {file}: no such file, or no key in it", hint)
    if not re.fullmatch(rb"[!-~]+", key):
        raise UserError(
            f"--api-key-file {file}: a key is one word of letters, digits and ASCII signs", hint
        )
    return key
