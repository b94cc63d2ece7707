"""500 histories of the whole core in a world that fails, and proof that broken cores are found out."""

from __future__ import annotations

import pytest

from tests.simulation.run import Simulation, simulate
from tests.simulation.sabotage import FAULTS

SEEDS = 500
CHUNK = 25


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_is_kept(first: int) -> None:
    """No seed breaks a promise; a failure names its seed: `python -m tests.simulation --first SEED --seeds 1`."""
    for seed in range(first, first + CHUNK):
        simulate(seed)


def test_the_world_is_as_bad_as_it_should_be() -> None:
    """The seeds do contain crashes, lost answers, stops, resyncs and every way in which a job can end."""
    played = [simulate(seed) for seed in range(60)]
    states = {job.status.state.name for s in played for stored in s.world.stored.values() for job in stored.queue.jobs}
    assert sum(simulation.crashes for simulation in played) > 60
    assert states >= {"FINISHED", "FAILED", "STOPPED", "LOST", "SKIPPED"}
    assert any(ledger.resyncs for simulation in played for ledger in simulation.oracle.ledgers)
    assert {simulation.world.local for simulation in played} == {True, False}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_deliberate_fault_is_found(fault: str) -> None:
    """Each deliberate fault is found within the 500 seeds."""
    for seed in range(SEEDS):
        try:
            simulate(seed, FAULTS[fault])
        except AssertionError as found:
            print(f"{fault}: seed {seed}: {found}")
            return
    pytest.fail(f"500 seeds did not find: {fault}")


def test_a_seed_replays_the_same_history() -> None:
    """A seed is all that is needed to see a failure again."""

    def history(simulation: Simulation) -> list[tuple[str, int, float]]:
        return [
            (s.queue.queue_id, s.queue.revision, s.queue.status.update_time) for s in simulation.world.stored.values()
        ]

    for seed in (7, 11, 42):
        once, again = simulate(seed), simulate(seed)
        assert history(once) == history(again)
        assert [e.event_id for e in once.world.published] == [e.event_id for e in again.world.published]
        assert once.crashes == again.crashes
