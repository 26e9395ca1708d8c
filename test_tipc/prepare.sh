#!/bin/bash
# usage: prepare.sh CONFIG MODE: data and weights; twice changes nothing
. "$(dirname "$0")/common.sh"
run_tipc "$2" "$1" --only-prepare
