#!/bin/bash
# usage: test_lite_arm_cpu_cpp.sh CONFIG; status 77: skipped
. "$(dirname "$0")/common.sh"
run_tipc lite_infer "$1"
