#!/bin/sh
# The GPU check (docs/gpu.md):
#   ops/bench/gpu.sh collect DIR              on a machine with a package index: gather what is carried along
#   ops/bench/gpu.sh install SITE STEP…       on the GPU machine: make an environment of it, in steps if need be
#   ops/bench/gpu.sh run (--wheels STEP… | --site SITE) --out OUT     measure; the report lies in OUT
# PYTHON names the interpreter: on the GPU machine the one that has torch. 3.11 or newer.
set -eu
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "gpu.sh: there is no $python here: set PYTHON to a Python 3.11 or newer" >&2
    exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "gpu.sh: $python is $("$python" -V 2>&1), 3.11 or newer is needed: set PYTHON to one" >&2
    exit 2
fi
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
# PYTHONPATH would put the checkout before the environment that is measured; -m alone needs it only here.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root exec "$python" -m ops.bench.gpu "$@"
