#!/bin/sh
# Builds what the bench's script by hand needs and Millstream does not: mysqlclient, from its source.
set -eu
cd "$(dirname "$0")/.."
. scripts/apt.sh
if .venv/bin/python -c "import MySQLdb" 2>/dev/null; then exit 0; fi

missing=""
command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
command -v pkg-config >/dev/null || missing="$missing pkg-config"
pkg-config --exists libmariadb 2>/dev/null || missing="$missing libmariadb-dev"
headers=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('include'))")
[ -e "$headers/Python.h" ] || missing="$missing $(basename "${PYTHON:-python3.11}")-dev"
# shellcheck disable=SC2086
if [ -n "$missing" ]; then install $missing; fi

echo "setup: mysqlclient, for the bench"
.venv/bin/python -m pip -qq --no-input --disable-pip-version-check install --require-hashes -r bench/rivals/requirements.lock
