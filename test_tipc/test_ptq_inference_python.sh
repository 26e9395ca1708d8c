#!/bin/bash
# usage: test_ptq_inference_python.sh CONFIG [whole_infer]
. "$(dirname "$0")/common.sh"
run_tipc "${2:-whole_infer}" "$1"
