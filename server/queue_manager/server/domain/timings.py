"""How long the core waits for what. All in seconds; `settings` says which of them can be set, and why they are so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The defaults suit real clusters; the runner's `launch_settle` is put in when the parts are put together."""

    stop_grace: float = 30.0
    """From the stop command to deletion, where the request does not say (design: 30 s)."""
    delete_grace: float = 10.0
    """From SIGTERM to SIGKILL of a worker that is deleted."""
    linger_grace: float = 60.0
    """From a worker's last message until it is ended (contracts, section 5)."""
    drain_settle: float = 2.0
    """How long a consumer group must have had no lag before its worker is ended; covers what is still on its way."""
    verdict_grace: float = 5.0
    """How long after a worker's end its last telemetry is waited for, where it comes another way than its end."""
    verdict_poll: float = 1.0
    """Whether it can be read is looked at this often."""
    verdict_patience: float = 300.0
    """The same at the latest, where what workers say cannot be read: a broker that is away, or has not let us in yet."""
    stop_resend: float = 3.0
    """The stop command is sent again this often: one record reaches one worker of a group (contracts, section 4)."""
    lag_poll: float = 0.5
    """A consumer group's lag is asked for this often once its feeders have ended."""
    delete_retry: float = 5.0
    """A deletion that has not been confirmed is asked for again this often."""
    launch_settle: float = 0.0
    """`Runner.launch_settle`."""
