#!/bin/sh
# Make or renew .venv and install the project into it, with the extras named in $1.
set -eu
extras=$1
export PIP_DISABLE_PIP_VERSION_CHECK=1

if [ ! -x .venv/bin/python ]; then
    base=$(scripts/find_python.sh)
    echo "Making .venv with $base ($("$base" --version 2>&1))"
    "$base" -m venv .venv
fi
# one call, so that torch and torchvision are resolved together and come from the same build
echo "Installing napari-samdepth[$extras] into .venv (a few minutes and some GB the first time)"
.venv/bin/python -m pip install --quiet --no-input --root-user-action=ignore --editable ".[$extras]"
