#!/bin/bash
# usage: test_serving_infer_python.sh CONFIG [serving_infer]
. "$(dirname "$0")/common.sh"
run_tipc "${2:-serving_infer}" "$1"
