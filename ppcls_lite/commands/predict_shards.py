"""`predict --shards`: any number of pictures through Ray Data, on this machine or on a cluster.

A shard is a file of JSON lines that appears when it is complete. A run that was stopped, however it
ended, goes on with the shards that are missing.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcls_lite.data.decode import REMEDY, allow_megapixels
from ppcls_lite.deploy.choose import find_model
from ppcls_lite.deploy.classify import classify, open_predictor
from ppcls_lite.deploy.settings import PredictConfig
from ppcls_lite.environment import take_cores
from ppcls_lite.errors import UserError
from ppcls_lite.files import file_sha256, write_atomically
from ppcls_lite.program import install_hint, quoted
from ppcls_lite.untrusted import read_json
from ppcls_lite.weights.find import find_weights

SHARD = 1000  # pictures
ABOUT = "run.json"


class ShardWriter:
    """A process of Ray's that loads the network once and answers shard after shard.

    Args:
        config: of the command.
        folder: where shards go.
    """

    def __init__(self, config: PredictConfig, folder: Path) -> None:
        take_cores(1)
        if config.max_megapixels is not None:  # a process of its own
            allow_megapixels(config.max_megapixels)
        self._predictor = open_predictor(config)
        self._topk = config.topk
        self._folder = folder

    def __call__(self, shard: dict[str, Any]) -> dict[str, int]:
        """Writes one shard; returns how many pictures it has and how many could not be read."""
        files = [Path(name) for name in shard["files"]]
        rows = [
            result.to_dict(self._predictor.engine)
            for result in classify(self._predictor, files, self._topk)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self._folder / shard["name"], text.encode())
        return {"pictures": len(rows), "failed": sum("error" in row for row in rows)}


def run(config: PredictConfig, pictures: Sequence[Path]) -> int:
    """Writes what is missing of FOLDER/part-NUMBER.jsonl; progress goes to stderr.

    Returns:
        1 when a picture could not be read, else 0.

    Raises:
        UserError: Ray is missing, or the folder holds another run.
    """
    try:
        import ray.data  # an optional package
    except ImportError as error:
        raise UserError(f"--shards needs Ray: {error}", install_hint("ray")) from error
    folder = Path(config.shards or "").absolute()
    names = [str(picture.absolute()) for picture in pictures]
    claim(folder, config, names)
    shards = [
        {"name": f"part-{start // SHARD:06d}.jsonl", "files": names[start : start + SHARD]}
        for start in range(0, len(names), SHARD)
    ]
    missing = [shard for shard in shards if not (folder / str(shard["name"])).is_file()]
    print(f"predict: {len(missing)} of {len(shards)} shards are to be done", file=sys.stderr)
    if not missing:
        return 0
    # Ray's processes must find this package; RAY_ADDRESS names a cluster, else one starts here.
    root = str(Path(__file__).parents[2])
    ray.init(ignore_reinit_error=True, runtime_env={"env_vars": {"PYTHONPATH": root}})
    most = max(1, min(len(missing), int(ray.cluster_resources().get("CPU", 1))))
    answers = ray.data.from_items(missing, override_num_blocks=len(missing)).map(
        ShardWriter,
        fn_constructor_args=(config, folder),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
        num_cpus=1,
    )
    done = failed = 0
    for answer in answers.iter_rows():
        done += answer["pictures"]
        failed += answer["failed"]
        print(f"predict: {done} images, {failed} of them failed", file=sys.stderr)
    if failed:
        print(f"  next: {REMEDY}", file=sys.stderr)
    return 1 if failed else 0


def claim(folder: Path, config: PredictConfig, names: Sequence[str]) -> None:
    """Notes what a folder's shards are of.

    Raises:
        UserError: they are of other pictures or another network.
    """
    path = find_weights(config.pretrained, config.model).path
    model = find_model(path, config.engine, config.device, config.batch_size).file
    about = {
        "pictures": len(names),
        "list": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "model": file_sha256(model),
        "topk": config.topk,
        **({"tta": config.tta} if config.tta != "none" else {}),
        "shard": SHARD,
    }
    file = folder / ABOUT
    if not file.exists():
        if folder.is_dir() and os.listdir(folder):
            raise UserError(
                f"--shards {folder} holds files that are no shards", "give a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(about).encode())
        return
    before = read_json(file, "description of a run", f"rm -r {quoted(str(file.parent))}, and again")
    other = [name for name in about if before.get(name) != about[name]]
    if other:
        raise UserError(
            f"--shards {folder} holds predictions of another run ({', '.join(other)} differ)",
            "give a new folder, or the same images, model and --topk",
        )
