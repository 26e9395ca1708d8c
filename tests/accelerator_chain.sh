#!/bin/sh
# The command sequences of VastModelZOO's two pages, from weights to evaluated results, with the
# stand-in in the place of the card's tools.
#
#   accelerator_chain.sh WORK CHECKPOINT FOREIGN DATA
#
# WORK        empty folder
# CHECKPOINT  best.pdparams of a training on DATA
# FOREIGN     weights of mobilenet_v3_small in torchvision's layout, trained on the same classes
# DATA        train/ and val/ with class folders
#
# Every result line is also left in WORK/*.line, for the test that started this.
set -e
WORK=$1 CHECKPOINT=$2 FOREIGN=$3 DATA=$4
REPO=$(cd "$(dirname "$0")/.." && pwd)
PYTHON=${PYTHON:-python}

# The documents' folders: classification/{common,mobilenetv3}, scripts under their names.
mkdir -p "$WORK/classification/common/utils" "$WORK/classification/common/eval" \
    "$WORK/classification/common/sdk1.0" "$WORK/bin"
COMMON=$WORK/classification/common
ln -s "$REPO/tools/accelerator/export_timm_torchvision_model.py" "$COMMON/utils"
ln -s "$REPO/tools/accelerator/image2npz.py" "$COMMON/utils"
ln -s "$REPO/tools/accelerator/eval_topk.py" "$COMMON/eval"
ln -s "$REPO/tools/accelerator/eval_imagenet.py" "$COMMON/eval"
ln -s "$REPO/tools/accelerator/sample_cls.py" "$COMMON/sdk1.0"
for tool in vamc vamp; do
    case $tool in vamc) action= ;; vamp) action=profile ;; esac
    printf '#!/bin/sh\nexec "%s" "%s/tools/accelerator/sim.py" %s "$@"\n' \
        "$PYTHON" "$REPO" "$action" > "$WORK/bin/$tool"
done
printf '#!/bin/sh\nexec "%s" "$@"\n' "$PYTHON" > "$WORK/bin/python"
chmod +x "$WORK/bin/"*
PATH=$WORK/bin:$PATH
PYTHONPATH=$REPO
export PATH PYTHONPATH

# 1. A bundle of our own checkpoint, and the steps of its MobileNetV3 page in its folder.
python "$REPO/tools/export_accelerator.py" --pretrained "$CHECKPOINT" --data-path "$DATA" \
    --out "$WORK/classification/mobilenetv3" --calibration-images 12
cd "$WORK/classification/mobilenetv3"
NAME=mobilenet_v3_small
python "$REPO/tools/accelerator/lint.py" .
for yaml in v1_int8 v1_fp16 v2_int8; do vamc build build/$yaml.yaml; done

python ../common/sdk1.0/sample_cls.py --save_dir output/mobilenet_v3_result.txt
python ../common/eval/eval_topk.py output/mobilenet_v3_result.txt | tail -n 1 > "$WORK/text.line"

python ../common/utils/image2npz.py --dataset_path "$DATA/val" --target_path "$WORK/input_npz" \
    --text_path npz_datalist.txt
PREFIX=$NAME-int8-percentile-3_32_32-vacc/$NAME  # without deploy_weights/, as the documents have it
VDSP=vdsp_params/vamp/torchvision-$NAME-vdsp_params.json
vamp -m $PREFIX --vdsp_params ./$VDSP -i 8 -p 1 -b 22 --iterations 4 > "$WORK/speed.txt"
vamp -m $PREFIX --vdsp_params ./$VDSP -i 8 -p 1 -b 22 --datalist npz_datalist.txt \
    --path_output output > "$WORK/profile.txt"
python ../common/eval/eval_imagenet.py --result_path output --datalist npz_datalist.txt \
    --label labels/val_label.txt | tail -n 1 > "$WORK/npz.line"

# The same in half precision, and the second era's file with its parameters, which squash.
vamp -m deploy_weights/$NAME-fp16-none-3_32_32-vacc/$NAME --vdsp_params ./$VDSP \
    --datalist npz_datalist.txt --path_output fp16 > /dev/null
vamp -m deploy_weights/${NAME}_int8/mod -i 8 -p 1 -b 2 -s '[3,32,32]' \
    --vdsp_params vdsp_params/build_in/torchvision-$NAME-vdsp_params.json \
    --datalist npz_datalist.txt --path_output second > /dev/null

# 2. Foreign weights by the documents' exporter, a YAML written by hand, the same tools.
cd "$WORK/classification"
mkdir torchvision
cd torchvision
python ../common/utils/export_timm_torchvision_model.py --model_library torchvision \
    --model_name $NAME --save_dir ./onnx --size 32 --pretrained_weights "$FOREIGN"
sed -e "s,onnx/$NAME.onnx,./onnx/${NAME}_32.onnx," -e 's,path: calib,path: ../mobilenetv3/calib,' \
    -e 's/quant_mode: percentile/quant_mode: mse/' ../mobilenetv3/build/v1_int8.yaml > build.yaml
vamc build ./build.yaml --float-layers Conv.0
vamp -m deploy_weights/$NAME-int8-mse-3_32_32-vacc/$NAME --vdsp_params ../mobilenetv3/$VDSP \
    --datalist ../mobilenetv3/npz_datalist.txt --path_output output > /dev/null
python ../common/eval/eval_imagenet.py --result_path output --label ../mobilenetv3/labels/label.txt \
    --datalist ../mobilenetv3/npz_datalist.txt --classes ../mobilenetv3/labels/wnid.json |
    tail -n 1 > "$WORK/foreign.line"

# 3. Both sequences again with the remedies: a bundle of the float graph that int8 follows better and
# of the layers that quantize keeps in float.
cd "$WORK/classification"
python "$REPO/tools/quantize.py" --target accelerator --pretrained "$CHECKPOINT" --data-path "$DATA" \
    --out "$WORK/int8" --calibration-images 12 --calibration-mode percentile \
    --remedies gates,equalise --float-layers pool,worst:2 --min-agreement 0 > "$WORK/quantize.txt"
python "$REPO/tools/export_accelerator.py" --pretrained "$WORK/int8" --data-path "$DATA" \
    --out remedied --calibration-images 12
PPCLS="python -m ppcls_lite" sh remedied/run.sh sim "$DATA/val" > "$WORK/remedied.txt"
grep -F '[VACC]:' "$WORK/remedied.txt" | head -n 1 > "$WORK/remedied_text.line"
grep -F '[VACC]:' "$WORK/remedied.txt" | tail -n 1 > "$WORK/remedied_npz.line"
# The second era's file names those layers itself.
cd remedied
vamc build build/v2_int8.yaml

# 4. The bundle's own script runs the same chain.
cd /
PPCLS="python -m ppcls_lite" sh "$WORK/classification/mobilenetv3/run.sh" sim "$DATA/val"
