"""`queuectl`: the Queue Manager on a command line. This module is the way in; what draws is loaded when it is needed.

Everything that it does it does through `queue_manager.client`; it never imports the server.
"""

from __future__ import annotations

import io
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run `queuectl` with the process's arguments, and exit with one of the codes that its help lists."""
    # grpc's C core writes to standard error by itself, e.g. when a server says goodbye, in the middle of a live table.
    # What matters of it comes as an exception. Read when the first channel is opened.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows a question mark for what it cannot show, rather than a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        from queue_manager.client.cli.app import app  # noqa: PLC0415 - a Ctrl-C while loading ends quietly, too

        app(prog_name="queuectl")
    except KeyboardInterrupt:
        sys.exit(130)
