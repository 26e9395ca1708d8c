"""`predict`: names what is on a picture, or on all pictures of a folder."""

import json
import sys
from pathlib import Path

from ppcls_lite.commands import predict_shards
from ppcls_lite.data.decode import REMEDY
from ppcls_lite.data.pictures import passed_over
from ppcls_lite.data.preprocess import find_images_and_others
from ppcls_lite.deploy.classify import Result, classify, open_predictor
from ppcls_lite.deploy.overlay import save_overlay
from ppcls_lite.deploy.settings import PredictConfig

BAR_WIDTH = 24


def run(config: PredictConfig) -> int:
    """Prints the most probable classes of every picture; notes and errors go to stderr.

    Returns:
        1 when a picture could not be read, else 0.
    """
    config.require("pretrained", "img_path")
    files, others = find_images_and_others(config.img_path)
    if others:
        print(f"predict: {config.img_path}: {passed_over(others)}", file=sys.stderr)
    if config.shards is not None:
        return predict_shards.run(config, files)
    predictor = open_predictor(config)
    if predictor.note:
        print(f"predict: {predictor.note}", file=sys.stderr)
    if predictor.choice:
        print(f"predict: {predictor.choice}", file=sys.stderr)
    failed, saved, explained = 0, set[Path](), set[Path]()
    explain = config.explain is not None
    for result in classify(predictor, files, config.topk, explain, config.explain_layer):
        if result.image is None:
            failed += 1
            print(f"predict: {result.error}", file=sys.stderr)
        if config.json:
            print(json.dumps(result.to_dict(predictor.engine)), flush=True)
        elif result.image is not None:
            print("\n".join(_as_text(result, predictor.engine)), flush=True)
        if config.save_vis is not None and result.image is not None:
            target = _free_name(Path(config.save_vis), f"{result.file.stem}_pred", ".jpg", saved)
            save_overlay(result.image, result.ranking[:5], target)
        if config.explain is not None and result.why is not None:
            name = f"{result.file.stem}_{result.why.method}"
            target = _free_name(Path(config.explain), name, ".png", explained)
            save_overlay(result.why.side_by_side(), result.ranking[:5], target)
    if saved:
        print(f"predict: {len(saved)} images saved to {config.save_vis}", file=sys.stderr)
    if explained:
        print(f"predict: {len(explained)} heatmaps saved to {config.explain}", file=sys.stderr)
    if failed:
        print(f"predict: {failed} of {len(files)} images failed\n  next: {REMEDY}", file=sys.stderr)
    return 1 if failed else 0


def _as_text(result: Result, engine: str) -> list[str]:
    best = result.ranking[0]
    full, empty = _bar_characters()
    lines = [
        f"{result.file}  ({engine}, {result.milliseconds:.1f} ms)",
        f"class_id: {best.class_id}, prob: {best.prob}",  # Step6's line
    ]
    if result.ranking.unknown:
        lines.append("unknown: none of the classes that the model knows")
    if (labels := result.ranking.labels) is not None:
        lines.append(f"labels: {', '.join(label.name for label in labels) or 'none'}")
    id_width = max(len(str(p.class_id)) for p in result.ranking)
    for prediction in result.ranking:
        filled = round(BAR_WIDTH * prediction.prob)
        bar = full * filled + empty * (BAR_WIDTH - filled)
        number = f"{prediction.class_id:>{id_width}}"
        name = "" if prediction.name == number.strip() else f"  {prediction.name}"
        # The name comes last: names may be long, or of characters of double width.
        lines.append(f"  {bar} {100 * prediction.prob:6.2f} %  {number}{name}")
    return [*lines, ""]


def _bar_characters() -> tuple[str, str]:
    unicode = "utf" in (sys.stdout.encoding or "").lower()
    return ("█", "░") if unicode else ("#", ".")


def _free_name(folder: Path, name: str, suffix: str, taken: set[Path]) -> Path:
    """Returns a file of that name, numbered when another input of this run has the same one."""
    target, number = folder / f"{name}{suffix}", 1
    while target in taken:
        number += 1
        target = folder / f"{name}_{number}{suffix}"
    taken.add(target)
    return target
