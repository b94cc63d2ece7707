"""The whole core on virtual time against a simulated world that fails in every way, judged by an independent oracle.

`run.simulate(seed)` plays one history; the same seed plays the same one again. See `docs/simulation.md`.
"""
