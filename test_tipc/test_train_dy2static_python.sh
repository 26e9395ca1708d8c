#!/bin/bash
# usage: test_train_dy2static_python.sh CONFIG
. "$(dirname "$0")/common.sh"
run_tipc dy2static_train "$1"
