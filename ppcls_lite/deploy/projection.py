"""Features as points on a plane: what lies together, and which classes do not keep apart."""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppcls_lite.deploy.features import Features
from ppcls_lite.files import whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENOUGH = 20  # pictures from which on UMAP has neighbours to keep
# Of tab20, for the most frequent classes. The others are grey, so its two greys are out.
COLOURS = [n for n in range(20) if n not in (14, 15)]
COLOURED = len(COLOURS)


def principal_components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two directions in which features differ most, as coordinates.

    Args:
        features: float32 [N, D].

    Returns:
        float64 [N, 2], and the shares of the variance, [2]. Of each axis the sign is free: the
        direction's largest part is positive.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)  # the smallest first
    axes = directions[:, :-3:-1]  # [D, 2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return centred @ axes, variances[:-3:-1] / max(variances.sum(), np.finfo(float).tiny)


def umap_places(features: np.ndarray) -> np.ndarray:
    """Returns points that keep neighbours together, [N, 2] (McInnes et al. 2018, by umap-learn).

    The same features give the same points.
    """
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed means one thread; few images mean few neighbours
        reducer = umap.UMAP(metric="cosine", random_state=0)
        return np.asarray(reducer.fit_transform(features))


def plot_features(features: Features, path: Path) -> str:
    """Draws pictures on a plane, coloured by class, as a PNG.

    Returns:
        How they were placed: UMAP where umap-learn is installed and there are enough pictures, else
        principal components.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    what = (features.features, features.labels, features.classes.tolist())
    enough = len(features.features) >= ENOUGH and importlib.util.find_spec("umap") is not None
    draw_features(figure, *what, umap_places(features.features) if enough else None)
    with whole(path) as part:
        figure.savefig(part, dpi=120)
    return "UMAP" if enough else "principal components"


def draw_features(
    figure: "Figure",
    features: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    places: np.ndarray | None = None,
) -> None:
    """Draws pictures on a plane, coloured by class.

    Args:
        figure: to draw on.
        features: float32 [N, D].
        labels: int64 [N]; -1 where there is none.
        names: of the classes, [K].
        places: of UMAP, [N, 2]; None: the first two principal components.
    """
    from matplotlib import colormaps

    axes = figure.add_subplot()
    if places is None:
        places, shares = principal_components(features)
        axes.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
        axes.set_ylabel(f"second, {shares[1]:.0%}")
    else:
        axes.set_title("UMAP: what lies together is alike; the axes mean nothing")
        axes.set_xticks([])
        axes.set_yticks([])
    ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    own = sorted(ids[np.argsort(-counts, kind="stable")][:COLOURED].tolist())
    rest = places[~np.isin(labels, own)]
    axes.scatter(rest[:, 0], rest[:, 1], s=8, color="0.7", linewidths=0)
    handles = []
    for n, i in enumerate(own):
        x, y = places[labels == i].T
        handles.append(axes.scatter(x, y, s=10, color=colormaps["tab20"](COLOURS[n]), linewidths=0))
    if handles:
        legend = figure.legend(
            handles, [names[i] for i in own], loc="outside right upper", markerscale=2
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # names are data: a dollar sign begins no formula
