"""Published weights, fetched into a cache folder at first use."""

from pathlib import Path

from ppcls_lite.download import fetch_file
from ppcls_lite.errors import UserError
from ppcls_lite.files import cache_folder
from ppcls_lite.weights.formats import open_weights
from ppcls_lite.weights.tags import WeightTag, resolve_pretrained


def pretrained_file(text: str | Path, model: str | None = None, *, download: bool = True) -> Path:
    """The file that `--pretrained TEXT` names; published weights are fetched at first use.

    Args:
        text: a path or a tag, see `tags.resolve_pretrained`.
        model: network that the weights have to be for, None where the weights decide.
        download: False gives the path that a download would go to, whether it is there or not.

    Raises:
        UserError: the text names nothing, or weights of another model, or they cannot be had.
    """
    found = resolve_pretrained(str(text), model)
    if isinstance(found, Path):
        return found
    if found.shipped or download:
        return fetch(found)
    return cache_folder() / found.file_name


def fetch(tag: WeightTag) -> Path:
    """The file of published weights; one that is not in this package: see `fetch_file`."""
    if tag.shipped:
        return tag.shipped
    hint = "set PPCLS_LITE_HOME to a folder with space that you may write to"
    return fetch_file(tag, cache_folder(), _examine, hint)


def _examine(path: Path) -> str:
    try:
        open_weights(path)
    except UserError as error:
        return error.message
    return ""
