"""What the text files hold, in one table, for all networks; `tipc configs` writes the files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ppcls_lite.files import write_atomically
from ppcls_lite.tipc.textfile import CPP, LITE, ONNX, PTQ, SERVING, TRAIN, Line, render

CONFIGS = Path("test_tipc/configs")
LITE_DATA = "./lite_data"
PICTURES = "./test_images"
INFER = f"tools/predict.py --json --topk=10 --engine=paddle_inference --img-path={PICTURES}"


@dataclass(frozen=True)
class Network:
    """A network of the chains.

    Attributes:
        weights: for the modes that train nothing; prepare.sh makes the file where it is one.
        start: weights that a lite training starts from; null starts afresh.
        recipe: flags of the lite training beside test_tipc/lite.yaml.
    """

    weights: str
    start: str = "null"
    recipe: str = ""


# MnasNet's batch norm keeps 0.9997 of its statistics at a step: a short run is evaluated with those
# it began with. So it begins with measured ones, and little but the last layer moves.
NETWORKS = {
    "mobilenet_v3_small": Network("mobilenet_v3_small.clothing10"),
    "mobilenet_v3_large": Network("./pretrain_models/mobilenet_v3_large.safetensors"),
    "mnasnet1_0": Network(
        "./pretrain_models/mnasnet1_0.safetensors",
        start="./pretrain_models/mnasnet1_0.safetensors",
        recipe=" --lr=0.00003 --head-lr-factor=30",
    ),
    "MobileNetV3_large_x1_0": Network("./pretrain_models/MobileNetV3_large_x1_0.safetensors"),
}


@dataclass(frozen=True)
class Variant:
    """One way to train; the name of its file is train_NAME_infer_python.txt.

    Attributes:
        trainer: as in upstream's files; begins the names of logs and folders.
        flags: beside the common ones.
        gpus: gpu_list of the file for GPUs.
        launcher: before train.py, for a CPU.
        epochs: of a lite training on a CPU.
    """

    trainer: str
    flags: str = ""
    gpus: str = "0|0,1"
    launcher: str = ""
    epochs: int = 2


VARIANTS = {
    "": Variant("norm_train"),
    "amp": Variant("amp_train", " --amp-level=O2"),
    "pact": Variant("pact_train", " --pact-quant", epochs=1),  # slow: Paddle's own layers
    "fpgm": Variant("fpgm_train", " --fpgm-ratio=0.3"),
    "fleet": Variant("fleet_train", gpus="192.168.0.1,192.168.0.2;0,1"),
    "parallel": Variant(
        "parallel_train",
        launcher="-m paddle.distributed.launch --nproc_per_node=2 ",
        epochs=4,  # of half the steps
    ),
}
GPU_ONLY, CPU_ONLY = ("fleet",), ("parallel",)


def files() -> Iterator[tuple[Path, str]]:
    """Yields path and text of every file."""
    for model, network in NETWORKS.items():
        folder = CONFIGS / model
        for name, variant in VARIANTS.items():
            stem = f"train_{name}_infer_python" if name else "train_infer_python"
            if name not in CPU_ONLY:
                lines = _train(model, network, variant, on_cpu=False)
                yield folder / f"{stem}.txt", render(TRAIN, lines)
            if name not in GPU_ONLY:
                lines = _train(model, network, variant, on_cpu=True)
                yield folder / f"{stem}_cpu.txt", render(TRAIN, lines)
        yield folder / "train_ptq_infer_python.txt", render(PTQ, _ptq(model))
        yield folder / "paddle2onnx_infer_python.txt", render(ONNX, _onnx(model))
        yield folder / "serving_infer_python.txt", render(SERVING, _serving(model))
        yield folder / "inference_cpp.txt", render(CPP, _cpp(model))
        yield folder / "lite_arm_cpu_cpp.txt", render(LITE, _lite_arm(model))


def write_files() -> int:
    """Writes all files; returns how many."""
    count = 0
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        count += 1
    return count


def inference_folder(model: str) -> str:
    """Where prepare.sh exports a network for the modes that only infer."""
    return f"./inference/{model}_infer"


def _lines(**pairs: str) -> dict[str, Line]:
    """Makes `name="key:value"` lines."""
    split = {name: pair.partition(":") for name, pair in pairs.items()}
    return {name: Line(key, value) for name, (key, _, value) in split.items()}


def _train(model: str, network: Network, variant: Variant, on_cpu: bool) -> Mapping[str, Line]:
    if on_cpu:
        script = f"{variant.launcher}train.py -c test_tipc/lite.yaml --model={model}"
        script += network.recipe + variant.flags
        epochs, batch = (variant.epochs, variant.epochs, 10), (8, 8, 8)
        test = "train.py --test-only -c test_tipc/lite.yaml"
    else:
        # Step6's recipe, its rate in proportion to the batch.
        script = f"train.py --model={model} --lr-scale-batch=256{variant.flags}"
        epochs, batch = (5, 5, 120), (4, 4, 128)
        test = "train.py --test-only"
    modes = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_train_whole_infer")
    data = (LITE_DATA, LITE_DATA, "./data")
    return _lines(
        model_name=f"model_name:{model}",
        python="python:python3",
        gpu_list=f"gpu_list:{-1 if on_cpu else variant.gpus}",
        use_gpu=f"use-gpu:{'False' if on_cpu else 'True|True'}",
        epochs="--epochs:" + _per_mode(modes, epochs),
        output_dir="--output-dir:./output/",
        batch_size="--batch-size:" + _per_mode(modes, batch),
        pretrained=f"--pretrained:{network.start if on_cpu else 'null'}",
        train_model_name="train_model_name:latest.pdparams",
        data_path="--data-path:" + _per_mode(modes, data),
        trainer=f"trainer:{variant.trainer}",
        train=f"{variant.trainer}:{script}",
        eval=f"eval:{test}",
        save_infer=f"--save-inference-dir:{inference_folder(model)}",
        export_weight="--pretrained:",
        norm_export=f"norm_export:tools/export_model.py --model={model}",
        train_model=f"train_model:{network.weights}",
        infer_export=f"infer_export:tools/export_model.py --model={model}",
        inference=f"inference:{INFER}",
        infer_device=f"--device:{'cpu' if on_cpu else 'gpu|cpu'}",
        infer_batch_size="--batch-size:1",
        model_dir=f"--pretrained:{inference_folder(model)}",
        img_path=f"--img-path:{PICTURES}",
        benchmark="null:null",
        bench_batch_size="batch_size:8|32",
        fp_items="fp_items:fp32",
        bench_epoch="epoch:1",
        to_static_train="to_static_train:--to-static=True",
    )


def _per_mode(modes: tuple[str, ...], values: tuple[object, ...]) -> str:
    return "|".join(f"{mode}={value}" for mode, value in zip(modes, values, strict=True))


def _ptq(model: str) -> Mapping[str, Line]:
    return _lines(
        model_name=f"model_name:{model}",
        python="python:python3",
        use_gpu="null:null",
        model_path=f"--pretrained:{NETWORKS[model].weights}",
        output_dir=f"--out:./inference/{model}_infer_ptq",
        data_dir=f"--data-path:{LITE_DATA}",
        batch_num="null:null",
        batch_size="null:null",
        trainer="trainer:ptq_train",
        # Lite data are no clothing: answers near chance change sides more often than real ones.
        train="ptq_train:tools/quantize.py --target=onnxruntime --min-agreement=0.8"
        f" --model={model}",
        inference=f"inference:tools/predict.py --json --topk=10 --img-path={PICTURES}",
        infer_device="--device:cpu",
        infer_batch_size="--batch-size:1",
        model_dir=f"--pretrained:./inference/{model}_infer_ptq",
        img_path=f"--img-path:{PICTURES}",
        benchmark="null:null",
    )


def _onnx(model: str) -> Mapping[str, Line]:
    folder = inference_folder(model)
    return _lines(
        model_name=f"model_name:{model}",
        python="python:python3",
        **{"2onnx": "2onnx:paddle2onnx --optimize_tool=None"},  # its default runs pip install
        model_path=f"--model_dir:{folder}",
        model_filename="--model_filename:inference.pdmodel",
        params_filename="--params_filename:inference.pdiparams",
        save_file=f"--save_file:{folder}/model.onnx",
        opset_version="--opset_version:10",
        enable_onnx_checker="--enable_onnx_checker:True",
        inference="inference:tools/predict.py --json --topk=10",
        model_dir=f"--pretrained:{folder}/model.onnx",
        img_path=f"--img-path:{PICTURES}",
    )


def _serving(model: str) -> Mapping[str, Line]:
    folder = inference_folder(model)
    up = "../.."  # upstream's script starts server and client in serving_dir
    return _lines(
        model_name=f"model_name:{model}",
        python="python:python3",
        trans_model="trans_model:tools/paddle_serving_convert.py",
        model_path=f"--dirname:{folder}",
        model_filename="--model_filename:inference.pdmodel",
        params_filename="--params_filename:inference.pdiparams",
        serving_server=f"--serving_server:./inference/{model}_serving/server",
        serving_client=f"--serving_client:./inference/{model}_serving/client",
        serving_dir="serving_dir:./deploy/serving",
        web_service=f"web_service:{up}/tools/serve.py {up}/{folder[2:]} --workers=1"
        " --engine=paddle_inference",
        pipline="pipline:pipeline_http_client.py --topk=10 --wait=60",
        img_path=f"--image:{up}/{PICTURES[2:]}",
    )


def _cpp(model: str) -> Mapping[str, Line]:
    return _lines(
        model_name=f"model_name:{model}",
        cpp_infer_type="cpp_infer_type:cls",
        model_path=f"cls_inference_model_dir:{inference_folder(model)}",
        det_model_path="det_inference_model_dir:null",
        model_url="cls_inference_url:null",
        det_model_url="det_inference_url:null",
        infer_quant="infer_quant:False",
        inference="inference_cmd:./build/cpp/classify",
        use_gpu="use_gpu:False",
        enable_mkldnn="enable_mkldnn:null",
        cpu_threads="cpu_threads:1",
        batch_size="batch_size:1",
        use_tensorrt="use_tensorrt:False",
        precision="precision:fp32",
        img_path=f"image_dir:{PICTURES}",
        benchmark="benchmark:null",
    )


def _lite_arm(model: str) -> Mapping[str, Line]:
    return _lines(
        runtime_device="runtime_device:arm_cpu",
        lite_arm_work_path="lite_arm_work_path:/data/local/tmp/arm_cpu/",
        lite_arm_so_path="lite_arm_so_path:inference_lite_lib.android.armv8/cxx/lib/"
        "libpaddle_light_api_shared.so",
        clas_model_file=f"clas_model_file:{model}.nb",
        inference="inference_cmd:mobilenet_v3 config.txt demo.jpg",
        num_threads_list="--num_threads_list:1",
        batch_size_list="--batch_size_list:1",
        precision_list="--precision_list:FP32",
        model_name=f"model_name:{model}",
        model_path=f"model_path:{inference_folder(model)}",
        img_path=f"img_path:{PICTURES}",
    )
