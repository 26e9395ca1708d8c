#!/bin/bash
# usage: test_train_inference_python.sh CONFIG MODE [gpu_id]
. "$(dirname "$0")/common.sh"
[ -z "${3:-}" ] || export CUDA_VISIBLE_DEVICES="$3"
run_tipc "$2" "$1"
