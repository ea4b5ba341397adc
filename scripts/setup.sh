#!/bin/sh
# Makes .venv and installs LOCK and Millstream itself into it.   usage: setup.sh LOCK
set -eu
cd "$(dirname "$0")/.."
. scripts/apt.sh
lock=$1
python=${PYTHON:-python3.11}

if ! command -v "$python" >/dev/null; then
    echo "setup: $python is missing: install Python 3.11, or name another by PYTHON=…" >&2
    exit 3
fi
# Debian ships ensurepip apart, and without it venv leaves a folder that has no pip.
if ! "$python" -c "import ensurepip, venv" 2>/dev/null; then install "$(basename "$python")-venv"; fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "setup: virtual environment in .venv"
    "$python" -m venv --clear .venv
fi
echo "setup: packages of $lock (the first time takes a minute)"
pip=".venv/bin/python -m pip -qq --no-input --disable-pip-version-check install --no-warn-script-location" # -qq: errors only
$pip --require-hashes -r "$lock"
# No isolation: the build backend is in the lock, with its hash.
$pip --no-deps --no-build-isolation --editable .
