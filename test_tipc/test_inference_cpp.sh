#!/bin/bash
# usage: test_inference_cpp.sh CONFIG [cpp_infer]
. "$(dirname "$0")/common.sh"
run_tipc "${2:-cpp_infer}" "$1"
