"""`export paddle_serving`: an exported network becomes what Paddle Serving starts from."""

from pathlib import Path

from ppcls_lite.deploy.paddle_serving import convert
from ppcls_lite.deploy.settings import PaddleServingConvertConfig
from ppcls_lite.errors import UserError
from ppcls_lite.program import export_command


def run(config: PaddleServingConvertConfig) -> int:
    """Writes both folders and prints what a client has to know."""
    config.require("dirname")
    folder = Path(config.dirname)
    files = [folder / config.model_filename, folder / config.params_filename]
    for file in files:
        if not file.is_file():
            raise UserError(
                f"no file {file}",
                export_command(folder),
            )
    if files[0].suffix != ".pdmodel":
        raise UserError(
            f"{files[0]}: Paddle Serving reads .pdmodel only", "--model_filename inference.pdmodel"
        )
    server, client = Path(config.serving_server), Path(config.serving_client)
    feeds, fetches = convert(files[0], files[1], server, client)
    print(f"feed {', '.join(feeds)}; fetch {', '.join(fetches)}\nwrote {server} and {client}")
    return 0
