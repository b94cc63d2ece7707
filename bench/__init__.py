"""The benchmark: how fast and how large the Queue Manager is, beside a bare `grpc.aio` service in the same run.

`python -m bench` (or `make bench`) runs it; `docs/performance.md` says how to read it.
"""

import os

# Read when grpc is imported: its C core would otherwise tell of every server that ends.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
