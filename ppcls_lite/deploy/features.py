"""Features of pictures: what a network's last layer reads of each, and which are nearest."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppcls_lite.deploy.first_load import check_whole
from ppcls_lite.deploy.sidecar import Sidecar
from ppcls_lite.engines import import_engine
from ppcls_lite.errors import UserError
from ppcls_lite.files import whole
from ppcls_lite.program import export_command
from ppcls_lite.runtimes import OnnxRuntime, every_in_batches, is_installed

LINEAR = ("Gemm", "MatMul", "Conv")  # operators that may be a network's last layer
ROWS = 2**16  # of a gallery brought to length 1 at once
TRAINED = 2**18  # rows that an index is trained on
SHORTEST = 1e-12  # length from which on a vector has a direction
SUFFIXES = (".npz", ".parquet")


@dataclass(frozen=True)
class Features:
    """Features of a set of pictures, as `predict embed` writes them.

    Attributes:
        features: float32 [N, D], the input of the last layer.
        paths: str [N], the files.
        labels: int64 [N], the class ids; -1 where there is none.
        splits: str [N], train or val; empty where there is none.
        classes: str [K], the names of the classes.
        network: str [], SHA-256 of the weights that made them.
    """

    features: np.ndarray
    paths: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    classes: np.ndarray
    network: np.ndarray

    def class_name(self, row: int) -> str:
        """Returns the name of a picture's class; empty where it has none."""
        label = int(self.labels[row])
        return str(self.classes[label]) if 0 <= label < len(self.classes) else ""

    def write(self, path: Path) -> None:
        """Writes .npz with these names, or .parquet: path, split, label, class, feature.

        Raises:
            UserError: pyarrow is not installed.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            if path.suffix == ".npz":
                np.savez(part, **vars(self))
                return
            arrow, parquet = (import_engine(x, "pyarrow") for x in ("pyarrow", "pyarrow.parquet"))
            rows = range(len(self.features))
            flat = arrow.array(self.features.ravel())
            columns = {
                "path": self.paths,
                "split": self.splits,
                "label": self.labels,
                "class": [self.class_name(row) for row in rows],
                "feature": arrow.FixedSizeListArray.from_arrays(flat, self.features.shape[1]),
            }
            table = arrow.table(columns).replace_schema_metadata({"network": str(self.network)})
            parquet.write_table(table, part)


def read_features(path: Path) -> Features:
    """Reads what `Features.write` wrote as .npz.

    Raises:
        UserError: it is no such file, or damaged.
    """
    names = Features.__dataclass_fields__
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = Features(**{name: arrays[name] for name in names})
        sizes = {len(x) for x in (found.features, found.paths, found.labels, found.splits)}
        kinds = [getattr(found, name).dtype.kind for name in names]
        if len(sizes) != 1 or found.features.ndim != 2 or "".join(kinds) != "fUiUUU":
            raise ValueError(f"arrays of {sorted(sizes)} rows and of the kinds {kinds}")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no file of features: {error}",
            "write it again with tools/embed.py --out NAME.npz",
        ) from error
    return found


class Gallery:
    """Features to search in: exactly, every row is compared, or by an index of FAISS.

    Args:
        features: float32 [N, D].
        index: a name that `faiss.index_factory` knows, such as HNSW32; "": exactly.

    Raises:
        UserError: faiss is not installed, or knows no such index for so many rows.
    """

    def __init__(self, features: np.ndarray, index: str = "") -> None:
        self.features = features
        # Once for all queries; rows at length 1 would take the gallery's memory again.
        self.lengths = np.maximum(np.sqrt(np.einsum("nd,nd->n", features, features)), SHORTEST)
        self.index = _faiss_index(features, index) if index else None

    def nearest(self, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the rows with the largest cosine to a query.

        Args:
            query: float32 [D].
            count: rows wanted; at most N come.

        Returns:
            rows int64 [count]; cosines float32 [count], the largest first. Of equal ones the first
            row comes first, where every row is compared.
        """
        if self.index is not None:
            cosines, rows = self.index.search(unit(query)[None], min(count, len(self.features)))
            found = rows[0] >= 0  # an approximate index may find fewer
            return rows[0][found], cosines[0][found]
        cosines = self.features @ unit(query) / self.lengths
        rows = np.argsort(-cosines, kind="stable")[:count]
        return rows, cosines[rows]


def _faiss_index(features: np.ndarray, name: str) -> Any:
    """An index of the rows at length 1, by inner product."""
    faiss = import_engine("faiss", "faiss-cpu")
    try:
        index = faiss.index_factory(features.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        index.train(unit(features[:TRAINED]))
        for start in range(0, len(features), ROWS):
            index.add(unit(features[start : start + ROWS]))
    except RuntimeError as error:
        cause = str(error).rpartition(": ")[2]
        raise UserError(
            f"faiss makes no index {name!r} of {len(features)} images: {cause}",
            "name one of faiss.index_factory, such as HNSW32, or leave --index out",
        ) from None
    return index


def unit(rows: np.ndarray) -> np.ndarray:
    """Vectors [..., D] at length 1; one of zeros stays."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), SHORTEST)


def onnx_file_of(file: Path) -> Path:
    """Returns where the ONNX file of an export lies: it, or another one of its folder."""
    return file if file.suffix == ".onnx" else file.parent / "inference.onnx"


def has_features(engine: str, file: Path) -> bool:
    """Tells whether a Predictor's `embed` can work, by its engine and file."""
    return engine == "dygraph" or (onnx_file_of(file).is_file() and is_installed("onnx"))


def features_of_export(
    file: Path, sidecar: Sidecar | None, device: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Opens the ONNX file of an export: images [N, 3, H, W] -> its own output and the features.

    Both are of one run: float32 [N, K] and float32 [N, D].

    Args:
        file: it, or another one of the export's folder.
        sidecar: as read when the export was opened: a file put there since is refused.
        device: auto, cpu or gpu.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    onnx_file = onnx_file_of(file)
    if not onnx_file.is_file():
        raise UserError(
            f"{file}: features are read from an ONNX file, and there is none beside it",
            export_command(file.parent),
        )
    check_whole(sidecar, [onnx_file], "onnxruntime", device)
    run = OnnxRuntime(with_features(onnx_file), device)

    def both(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output, features = every_in_batches(run.every, run.batch, images)
        return output, features.reshape(len(images), -1)

    return both


def with_features(path: Path) -> bytes:
    """An ONNX file with a second output, what its last layer reads: of any file, int8 too.

    It is added in memory: a second output in the file is one that every other program would have
    to know of.

    Raises:
        UserError: onnx is not installed, or no last layer is found.
    """
    onnx = import_engine("onnx", "onnx")
    model = onnx.load(str(path))
    graph = model.graph
    name = features_name(graph)
    if not name:
        raise UserError(
            f"{path}: no linear layer leads to {graph.output[0].name}, and features are its input",
            "give the checkpoint that this file was exported from",
        )
    del graph.output[1:]
    kind = onnx.TensorProto.FLOAT
    graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    data: bytes = model.SerializeToString()
    return data


def features_name(graph: Any) -> str:
    """Returns what an ONNX graph calls the input of its last layer; empty where none is found."""
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while name in makers and makers[name].op_type not in LINEAR:
        name = next((each for each in makers[name].input if each in makers), "")
    return makers[name].input[0] if name in makers else ""
