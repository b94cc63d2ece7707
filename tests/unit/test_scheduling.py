"""Beside whom the server runs: it interrupts nobody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has scheduling policies")

CODE = """
import os, sys
from queue_manager.server.app import interrupt_nobody
os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
interrupt_nobody()
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(("before", "after"), [("SCHED_OTHER", "SCHED_BATCH"), ("SCHED_IDLE", "SCHED_IDLE")])
def test_the_usual_policy_makes_way_and_one_that_was_chosen_stays(before: str, after: str) -> None:
    """In a process of its own, because the way back from `SCHED_IDLE` may be closed."""
    said = subprocess.check_output([sys.executable, "-c", CODE, str(getattr(os, before))], text=True)
    assert int(said) == getattr(os, after)
