#!/usr/bin/env python3
"""One door for everything a developer of tpio does: `python dev.py --help` lists it.

Needs Python 3.11 or later. On Windows it builds natively, in virtual environments, with the Visual C++ Build Tools (MSVC
and the Windows SDK), which have to be there; on Debian and Ubuntu it needs nothing else: it cross compiles and runs the
result in a Windows Python under Wine, installing what that takes on first use.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - who runs it with less should read this, not a syntax error
    sys.exit("dev.py: this Python is too old, 3.11 or later is needed")

from devtools.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
