#!/bin/sh
# Print the first Python that is at least 3.11 and can make a virtual environment.
for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v "$candidate"
        exit 0
    fi
done
echo "Python 3.11 or newer with its venv module is needed and was not found (name one with PYTHON=...)." >&2
exit 1
