# Sourced by the scripts beside it: run_tipc MODE CONFIG [FLAG ...], in the root of the checkout.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
run_tipc() { exec "$PYTHON" -m ppcls_lite.tipc "$@"; }
