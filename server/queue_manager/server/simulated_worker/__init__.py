"""A worker that only pretends: it stands in, on a laptop, for the images that a laptop doesn't have.

`python -m queue_manager.server.simulated_worker` behaves as the platform's real workers do towards the Queue Manager:
the environment of contracts section 3, telemetry of section 5, commands of section 4; over Kafka where there is a broker,
else as JSON lines on standard output and input. It loads, stores, trains and computes nothing. How it ends can be ordered
by `SIMULATE_*` (see `settings`). It is written with the worker kit, `queue_manager.worker`.

It is started once a job, so it is quick: nothing is imported that is heavy.
"""
