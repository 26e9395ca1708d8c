#!/bin/bash
# usage: benchmark_train.sh CONFIG [benchmark_train]
. "$(dirname "$0")/common.sh"
run_tipc "${2:-benchmark_train}" "$1"
