#!/usr/bin/env bash
# Question: what does MNN's converter, mnnconvert, change on the machine besides the file it writes?
# Guess:    nothing.
# Seen:     loading it runs "pip install -U aliyun-log-python-sdk", unpinned, with the first pip on PATH: a logging client of a cloud
#           service and some ten packages below it. Called by its full path, it installs into another Python than its own.
# Matters:  a build that pins every package ends with others, takes half a minute more for each conversion, and differs between
#           a machine with and without network. Call the converter inside Python, as mnn_dilated_maxpool.sh does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/mnn"
python3.11 -m venv "$work/bystander"
"$work/mnn/bin/python" -m pip install --quiet --disable-pip-version-check MNN==3.6.1 numpy==2.3.5
cat > "$work/expected" <<'EXPECTED'
MNN 3.6.1 in one environment, another one first on PATH
before: mnn holds it: no, bystander holds it: no
after:  mnn holds it: no, bystander holds it: yes
EXPECTED
holds() { # holds ENVIRONMENT: is the logging client installed there?
  if "$work/$1/bin/python" -m pip show aliyun-log-python-sdk > /dev/null 2>&1; then echo yes; else echo no; fi
}
{
  echo "MNN $("$work/mnn/bin/python" -c 'from importlib.metadata import version; print(version("MNN"))')" \
    "in one environment, another one first on PATH"
  echo "before: mnn holds it: $(holds mnn), bystander holds it: $(holds bystander)"
  # Loaded, not run: nothing is converted, and nothing can be reported to anyone.
  PATH="$work/bystander/bin:$PATH" "$work/mnn/bin/python" -c 'import MNN.tools.mnnconvert' > "$work/log" 2>&1 || true
  echo "after:  mnn holds it: $(holds mnn), bystander holds it: $(holds bystander)"
} > "$work/seen"
cat "$work/seen"
diff -u "$work/expected" "$work/seen"
