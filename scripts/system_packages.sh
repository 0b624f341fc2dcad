#!/bin/sh
# What a Qt window with OpenGL needs from the system, and Python itself. On Debian and its kin root gets what is
# missing; anybody else is told. Never fails for want of a window: the tests that need one are then skipped.
set -eu

missing=""
need() { # package, then a test that succeeds when it is there
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
library() { ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1"; }
driver() { ls /usr/lib*/*/dri/*_dri.so /usr/lib*/dri/*_dri.so 2>/dev/null | grep -q .; }
python() { [ -x .venv/bin/python ] || scripts/find_python.sh; }

[ "$(uname -s)" = Linux ] || exit 0

need python3-venv python
need xvfb command -v xvfb-run
need xauth command -v xauth
need libgl1-mesa-dri driver
need libgl1 library libGL.so.1
need libegl1 library libEGL.so.1
need libglib2.0-0 library libglib-2.0.so.0
need libdbus-1-3 library libdbus-1.so.3
need libfontconfig1 library libfontconfig.so.1
need libx11-xcb1 library libX11-xcb.so.1
need libxkbcommon-x11-0 library libxkbcommon-x11.so.0
need libxcb-cursor0 library libxcb-cursor.so.0
need libxcb-icccm4 library libxcb-icccm.so.4
need libxcb-image0 library libxcb-image.so.0
need libxcb-keysyms1 library libxcb-keysyms.so.1
need libxcb-randr0 library libxcb-randr.so.0
need libxcb-render-util0 library libxcb-render-util.so.0
need libxcb-shape0 library libxcb-shape.so.0
need libxcb-sync1 library libxcb-sync.so.1
need libxcb-xfixes0 library libxcb-xfixes.so.0
need libxcb-xkb1 library libxcb-xkb.so.1

[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "System packages that seem to be missing (Debian's names):$missing"
    echo "Install their counterparts to open a window; tests that need one are skipped without them."
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "System packages are missing. Install them with:"
    echo "    sudo apt-get install --no-install-recommends$missing"
    echo "Tests that need a window are skipped without them."
    exit 0
fi
echo "Installing system packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one word per package is meant
apt-get install -y -qq --no-install-recommends $missing >/dev/null
