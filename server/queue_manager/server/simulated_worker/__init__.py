"""A worker that only pretends: it stands in, on a laptop, for the images that a laptop doesn't have.

`python -m queue_manager.server.simulated_worker` behaves as the platform's real workers do towards the Queue Manager:
the environment of contracts section 3, JSON lines of section 5 on standard output, commands of section 4 on standard
input. It loads, stores, trains and computes nothing. How it ends can be ordered by `SIMULATE_*` (see `settings`).

It is started once a job, so it is quick: standard library only, and of that only what is light.
"""
