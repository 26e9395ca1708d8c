"""`run.sh` of a bundle: the documents' commands with this network's paths."""

import shlex
from collections.abc import Sequence

VAMP_1, VAMP_2 = "-i 8 -p 1 -b 22", "-i 8 -p 1 -b 2"


def prefix(name: str, size: int, kind: str) -> str:
    """Prefix of the first era's files, as the compiler names them."""
    return f"deploy_weights/{name}-{kind}-3_{size}_{size}-vacc/{name}"


# Shell is full of braces and dollars, so that the blanks to fill are written @like_this@.
TEMPLATE = r"""#!/bin/sh
# @name@ on the accelerator, both eras of its tools, or on a CPU with the stand-in.
#
#   sh run.sh sim   VAL    the stand-in: needs ppcls_lite and ONNX Runtime, no card
#   sh run.sh card1 VAL    first era: vamc build, sample_cls.py, vamp 1
#   sh run.sh card2 VAL    second era: vamc compile, classification.py, vamp 2
#
# VAL holds one folder per class, which tell what is right: any set of the model's classes will
# do, or of some of them; or the images that labels/val_label.txt lists. What an earlier run
# left of another set is removed.
# ZOO is the vendor's classification/ folder with common/ in it.
# `card1` and `card2` were never run: there was no card.
set -e
WAY=${1:?sim, card1 or card2}
VAL=$(CDPATH= cd -- "${2:?folder with class folders}" && pwd)
cd "$(dirname "$0")"
ZOO=${ZOO:-../classification}
PPCLS=${PPCLS:-python -m ppcls_lite}
SDK=vdsp_params/sdk1.0/@params@
VAMP=vdsp_params/vamp/@params@
BUILD_IN=vdsp_params/build_in/@params@

rm -rf output/result.txt input_npz output_npz

case $WAY in
sim)
    $PPCLS accelerator lint .
    $PPCLS accelerator build build/v1_int8.yaml@float_layers@
    $PPCLS accelerator run --file_path "$VAL" --model_info model_info/model_info_@name@.json \
        --vdsp_params_info $SDK --label_txt labels/label.txt --save_dir output/result.txt
    $PPCLS accelerator eval_topk output/result.txt
    $PPCLS accelerator image2npz --dataset_path "$VAL" --target_path input_npz \
        --text_path npz_datalist.txt
    $PPCLS accelerator profile -m @first@ --vdsp_params $VAMP @VAMP_1@ \
        --datalist npz_datalist.txt --path_output output_npz
    $PPCLS accelerator eval_imagenet --result_path output_npz --datalist npz_datalist.txt \
        --label labels/label.txt
    ;;
card1)
    vamc build build/v1_int8.yaml
    python "$ZOO/common/sdk1.0/sample_cls.py" --file_path "$VAL" \
        --model_info model_info/model_info_@name@.json --vdsp_params_info $SDK \
        --label_txt labels/label.txt --save_dir output/result.txt
    # It makes a folder of that name, which the original eval_topk.py cannot open; ours can.
    $PPCLS accelerator eval_topk output/result.txt
    $PPCLS accelerator image2npz --dataset_path "$VAL" --target_path input_npz \
        --text_path npz_datalist.txt
    vamp -m @first@ --vdsp_params $VAMP @VAMP_1@
    vamp -m @first@ --vdsp_params $VAMP @VAMP_1@ \
        --datalist npz_datalist.txt --path_output output_npz
    $PPCLS accelerator eval_imagenet --result_path output_npz --datalist npz_datalist.txt \
        --label labels/label.txt
    ;;
card2)
    vamc compile build/v2_int8.yaml
    python "$ZOO/common/vsx/classification.py" --infer_mode sync --file_path "$VAL" \
        --model_prefix_path @second@ --vdsp_params_info $BUILD_IN \
        --label_txt labels/label.txt --save_dir output --save_result_txt result.txt
    $PPCLS accelerator eval_topk output/result.txt
    $PPCLS accelerator image2npz --dataset_path "$VAL" --target_path input_npz \
        --text_path npz_datalist.txt
    vamp -m @second@ --vdsp_params $BUILD_IN @VAMP_2@ -s [3,@size@,@size@]
    vamp -m @second@ --vdsp_params $BUILD_IN @VAMP_2@ -s [3,@size@,@size@] \
        --datalist npz_datalist.txt --path_output output_npz
    $PPCLS accelerator eval_imagenet --result_path output_npz --datalist npz_datalist.txt \
        --label labels/label.txt
    ;;
*)
    echo "$WAY: expected sim, card1 or card2" >&2
    exit 2
    ;;
esac
"""


def run_script(
    name: str, size: int, source: str, mode: str, float_layers: Sequence[str] = ()
) -> str:
    """Returns the script.

    Args:
        name: of the network.
        size: of its input, pixels.
        source: whose network it is.
        mode: of calibration.
        float_layers: names of layers that stay in float; `card1` has no key for them.
    """
    params = f"{source}-{name}-vdsp_params.json"
    first = prefix(name, size, f"int8-{mode}")
    second = f"deploy_weights/{name}_int8/mod"
    blanks = {
        "name": name,
        "size": str(size),
        "params": params,
        "first": first,
        "second": second,
        "VAMP_1": VAMP_1,
        "VAMP_2": VAMP_2,
        "float_layers": f" --float-layers {shlex.quote(','.join(float_layers))}"
        if float_layers
        else "",
    }
    script = TEMPLATE
    for blank, value in blanks.items():
        script = script.replace(f"@{blank}@", value)
    return script
