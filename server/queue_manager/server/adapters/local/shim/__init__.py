"""The supervisor of one local worker: a process of its own that outlives the server (see docs/local-workers.md).

It is started as `python -I -S` for speed and so sees nothing of this package but the modules of this folder, which
import nothing but a few light modules of the standard library: no `json`, no `pathlib`, no `typing`, no `signal` (whose
enums would add 6 ms to the 13 that a start takes).
"""
