#!/bin/bash
# usage: test_paddle2onnx.sh CONFIG [paddle2onnx_infer]
. "$(dirname "$0")/common.sh"
run_tipc "${2:-paddle2onnx_infer}" "$1"
