#!/bin/sh
# Run a command on a virtual display of its own, which neither needs nor disturbs the user's, where there is one.
if command -v xvfb-run >/dev/null 2>&1 && command -v xauth >/dev/null 2>&1; then
    exec xvfb-run -a -s "-screen 0 1400x900x24" "$@"
fi
exec "$@"
