"""Chains that train."""

import importlib.metadata
import json
import statistics
from pathlib import Path

from ppcls_lite.errors import UserError
from ppcls_lite.tipc.checks import (
    IPS,
    Check,
    accuracy_above_chance,
    files_exist,
    losses,
    same_accuracy,
    same_losses,
)
from ppcls_lite.tipc.steps import Step, StepFailed
from ppcls_lite.tipc.textfile import TextFile

ATOL, RTOL = 1e-4, 1e-3  # float32 sums in another order; see also docs/tipc.md
EXPORTED = ("inference.pdmodel", "inference.pdiparams", "inference.onnx", "inference.yml")


def join(*words: str) -> str:
    """Returns a command line without the words that are empty."""
    return " ".join(word for word in words if word)


def compare(name: str, reference: Path, answers: Path, atol: float = ATOL) -> Step:
    """Returns the step that holds one file of answers against another."""
    command = (
        f"python3 test_tipc/compare_results.py --gt_file={reference} --log_file={answers}"
        f" --atol={atol:g} --rtol={RTOL:g}"
    )
    return Step(name, command, answers.with_suffix(".compare.log"), lambda text: text.strip())


def train_inference(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """train, evaluate, export and infer, for every entry of gpu_list and trainer.

    Raises:
        UserError: the file has no epochs for this mode.
    """
    if mode == "whole_infer":
        return whole_infer(config, logs)
    if not config["epochs"].of_mode(mode):
        raise UserError(
            f"{config.path}:6: no epochs for {mode}; it has {config['epochs'].value}",
            f"add {mode}=1 to line 6, after a |",
        )
    return [
        step
        for gpus in config["gpu_list"].value.split("|")
        for step in _one_training(config, mode, logs, gpus)
    ]


def _one_training(config: TextFile, mode: str, logs: Path, gpus: str) -> list[Step]:
    python, data = config["python"].value, config["data_path"].of_mode(mode)
    label = f"{config['trainer'].value}_gpus_{gpus}".replace(";", "_")
    folder = logs / label
    weights = folder / config["train_model_name"].value
    train_log = logs / f"{label}_train.log"
    pass_data = config["data_path"].flag(data)
    train = join(
        python,
        launcher(gpus),
        config["train"].value,
        config["output_dir"].flag(str(folder)),
        config["epochs"].flag(config["epochs"].of_mode(mode)),
        config["pretrained"].flag(),
        config["batch_size"].flag(config["batch_size"].of_mode(mode)),
        pass_data,
    )
    evaluate = join(python, config["eval"].value, config["pretrained"].key + f"={weights}")
    export = join(
        python,
        config["norm_export"].value,
        config["export_weight"].flag(str(weights)),
        config["save_infer"].flag(str(folder)),
    )
    return [
        Step(f"train {label}", train, train_log, accuracy_above_chance(data, weights)),
        Step(
            f"eval {label}",
            join(evaluate, pass_data),
            logs / f"{label}_eval.log",
            same_accuracy(train_log),
        ),
        Step(
            f"export {label}",
            export,
            logs / f"{label}_export.log",
            files_exist(*(folder / name for name in EXPORTED)),
        ),
        *inference(config, mode, logs, label, str(weights), str(folder)),
    ]


def dy2static(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Trains a dynamic graph and a static one for an epoch; their losses must be the same."""
    train = join(
        config["python"].value,
        config["train"].value,
        config["epochs"].flag(config["bench_epoch"].value),
        config["pretrained"].flag(),
        config["batch_size"].flag(config["batch_size"].of_mode("lite_train_lite_infer")),
        config["data_path"].flag(config["data_path"].of_mode("lite_train_lite_infer")),
    )

    def command(name: str, flag: str) -> str:
        return join(train, flag, config["output_dir"].flag(str(logs / name)))

    # The static graph is one of Paddle's own layers, so the dynamic one has to be.
    dynamic_log = logs / "dygraph_train.log"
    dynamic = command("dygraph", "--cpu-kernels=off")
    static = command("to_static", config["to_static_train"].value)
    return [
        Step("train dygraph", dynamic, dynamic_log),
        Step("train to_static", static, logs / "to_static_train.log", same_losses(dynamic_log)),
    ]


def launcher(gpus: str) -> str:
    """Returns what stands before train.py for an entry of gpu_list: upstream's rule."""
    ips, _, devices = gpus.rpartition(";")
    if len(devices) <= 2:
        return ""
    hosts = f" --ips={ips}" if ips else ""
    return f"-m paddle.distributed.launch{hosts} --gpus={devices}"


def inference(
    config: TextFile, mode: str, logs: Path, label: str, weights: str, folder: str
) -> list[Step]:
    """Infers with the trained network and each exported file; their answers must be equal."""
    python, pictures = config["python"].value, config["img_path"].value
    if mode.endswith("whole_infer") and mode != "whole_infer":
        pictures = f"{config['data_path'].of_mode(mode)}/val"
    common = join(python, config["inference"].value, config["img_path"].flag(pictures))
    reference = logs / f"{label}_dygraph.log"
    weights_flag = config["model_dir"].flag(weights)
    steps = [
        Step(
            f"infer dygraph {label}",
            f"{common} --engine=dygraph --model={config.model} {weights_flag}",
            reference,
        )
    ]
    for device in config["infer_device"].value.split("|"):
        for batch_size in config["infer_batch_size"].value.split("|"):
            log = logs / f"{label}_python_infer_{device}_batchsize_{batch_size}.log"
            command = join(
                common,
                config["infer_device"].flag(device),
                config["model_dir"].flag(folder),
                config["infer_batch_size"].flag(batch_size),
                config["benchmark"].flag(),
            )
            steps += [
                Step(f"infer {device} {label}", command, log),
                compare(f"compare {device} {label}", reference, log),
            ]
    log = logs / f"{label}_onnx_infer_cpu.log"
    command = f"{common} --engine=onnxruntime {config['model_dir'].flag(folder)}"
    return [
        *steps,
        Step(f"infer onnx {label}", command, log),
        compare(f"compare onnx {label}", reference, log),
    ]


def ground_truth(model: str) -> Path:
    """The file with stored answers to test_images."""
    return Path("test_tipc/results") / f"python_{model}_infer_fp32.txt"


def whole_infer(config: TextFile, logs: Path) -> list[Step]:
    """Exports given weights and infers; the answers must be the stored ones."""
    weights, folder = config["train_model"].value, config["save_infer"].value
    export = join(
        config["python"].value,
        config["infer_export"].value,
        config["export_weight"].flag(weights),
        config["save_infer"].flag(folder),
    )
    steps = inference(config, "whole_infer", logs, "whole_infer", weights, folder)
    exported = files_exist(*(Path(folder, name) for name in EXPORTED))
    truth = compare("compare ground truth", ground_truth(config.model), steps[0].log, 1e-3)
    return [Step("export", export, logs / "export.log", exported), *steps, truth]


def benchmark(config: TextFile, mode: str, logs: Path) -> list[Step]:
    """Trains an epoch at each batch size; the speed of its last line goes into a JSON record."""
    steps = []
    for batch_size in config["bench_batch_size"].value.split("|"):
        run = f"{config.model}_bs{batch_size}_{config['fp_items'].value}_DP_N1C1"
        command = join(
            config["python"].value,
            config["train"].value,
            config["output_dir"].flag(str(logs / run)),
            config["epochs"].flag(config["bench_epoch"].value),
            config["batch_size"].flag(batch_size),
            config["data_path"].flag(config["data_path"].of_mode("lite_train_lite_infer")),
        )
        check = _speed(logs / "index" / f"{run}_speed", config.model, batch_size)
        steps.append(Step(f"train {run}", command, logs / "train_log" / f"{run}_log", check))
    return steps


def _speed(out: Path, model: str, batch_size: str) -> Check:
    def check(text: str) -> str:
        speeds, values = [float(each) for each in IPS.findall(text)], losses(text)
        if len(speeds) < 2 or not values:
            raise StepFailed("no line with avg_ips in the output")
        speed = statistics.median(speeds[1:])  # the first line holds the start
        record = {
            "model_name": model,
            "batch_size": int(batch_size),
            "fp_item": "fp32",
            "run_mode": "DP",
            "convergence_value": values[-1][2],
            "convergence_key": "loss:",
            "ips": speed,
            "speed_unit": "images/s",
            "device_num": "N1C1",
            "frame_version": importlib.metadata.version("paddlepaddle"),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record) + "\n")
        return f"{speed:.1f} images/s"

    return check
