"""``python -m napari_samdepth.cli`` is the command ``napari-samdepth``."""

import sys

from napari_samdepth.cli import main

if __name__ == "__main__":
    sys.exit(main())
