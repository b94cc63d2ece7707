"""What every `Runner` does: each sentence of the port's docstrings, on each adapter.

A rig (`runner_rigs`) knows one adapter: how to open it, how to open it again on the same world as a new server would, and
how to tidy up. Workers are shell scripts, so an adapter that runs images needs one with `/bin/sh` in it. One that runs
nothing, the scripted runner, has them played; what only a process can do or outlive (`needs_processes`) does not apply to
it. The one over Kubernetes takes part where there is a cluster (`make integration`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from queue_manager.server.application.ports import Runner
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Reason
from queue_manager.server.domain.observation import Phase, Refused
from tests.contract.runner_rigs import SECRETS, KubernetesRig, LocalRig, Rig, ScriptedRig
from tests.support.kubernetes import needs_cluster
from tests.support.local_workers import (
    PATIENCE,
    QUEUE,
    ended,
    key,
    launched,
    spec,
    status,
    until,
    until_phase,
)

LOCAL = pytest.param(LocalRig, id="local")
SCRIPTED = pytest.param(ScriptedRig, id="scripted")
KUBERNETES = pytest.param(KubernetesRig, id="kubernetes", marks=[pytest.mark.integration, needs_cluster])

needs_processes = pytest.mark.parametrize("rig", [LOCAL, KUBERNETES], indirect=True)
"""What is tested takes a process, or something that outlives the runner."""

needs_pipes = pytest.mark.parametrize("rig", [LOCAL], indirect=True)
"""What is tested takes a runner that starts processes itself: it sees at once whether they start, and hears them."""


@pytest.fixture(params=[LOCAL, SCRIPTED, KUBERNETES])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """Each adapter."""
    rig = request.param(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
async def runner(rig: Rig) -> AsyncIterator[Runner]:
    """Each adapter, open."""
    async with rig.open() as opened:
        yield opened


def runs_once(rig: Rig, name: str = "w", then: str = "exec sleep 300") -> LaunchSpec:
    """A worker that leaves a mark each time it runs."""
    return spec(name, f"echo started >> {rig.shared}/{name}; {then}")


# --- launch -----------------------------------------------------------------------------------------------------------


async def test_a_launched_worker_runs_and_is_known_by_uid_and_hash(rig: Rig, runner: Runner) -> None:
    """What launch answers is what observe says."""
    seen = await launched(runner, spec())
    assert (seen.phase, seen.key, seen.spec_hash) == (Phase.RUNNING, key(), "hash-1")
    assert seen.ref is not None
    assert (seen.ref.runner, seen.ref.name, bool(seen.ref.uid)) == (runner.name, "w", True)
    assert seen.start_time is not None
    assert await status(runner) == seen


async def test_launching_again_finds_the_first_and_starts_no_second(rig: Rig, runner: Runner) -> None:
    """A caller that saw no answer asks again."""
    first = await launched(runner, runs_once(rig))
    again = await launched(runner, runs_once(rig))
    assert again.ref == first.ref
    assert await rig.started("w") == 1


async def test_launches_of_one_name_at_the_same_time_start_one(rig: Rig, runner: Runner) -> None:
    """However many callers there are."""
    answers = await asyncio.gather(*(launched(runner, runs_once(rig)) for _ in range(8)))
    assert len({answer.ref.uid for answer in answers if answer.ref}) == 1
    assert await rig.started("w") == 1


async def test_an_ended_worker_is_not_started_again(rig: Rig, runner: Runner) -> None:
    """A name is used once."""
    await launched(runner, runs_once(rig, then="exit 4"))
    await ended(runner)
    again = await launched(runner, runs_once(rig, then="exit 4"))
    assert (again.phase, again.exit_code) == (Phase.ENDED, 4)
    assert await rig.started("w") == 1


async def test_a_worker_of_that_name_with_another_specification_is_shown_as_it_is(rig: Rig, runner: Runner) -> None:
    """The core decides what to make of it."""
    first = await launched(runner, spec(spec_hash="hash-1"))
    other = await launched(runner, spec(spec_hash="hash-2"))
    assert (other.ref, other.spec_hash) == (first.ref, "hash-1")


async def test_workers_of_different_names_run_side_by_side(rig: Rig, runner: Runner) -> None:
    """Launches do not wait for each other's workers."""
    names = [f"w{number}" for number in range(6)]
    answers = await asyncio.gather(*(launched(runner, spec(name)) for name in names))
    assert len({answer.ref.uid for answer in answers if answer.ref}) == 6


@needs_processes
async def test_a_worker_has_its_environment_and_its_secrets(rig: Rig, runner: Runner) -> None:
    """Secrets come by name."""
    script = f'printf "%s|%s|%s" "$SYMBOL" "$KAFKA_PASSWORD" "${{INTERVAL-unset}}" > {rig.shared}/env; exit 0'
    await launched(
        runner, spec(script=script, environment={"SYMBOL": "BTC USDT"}, secrets={"KAFKA_PASSWORD": "kafka-password"})
    )
    await ended(runner)
    assert (rig.shared / "env").read_text() == f"BTC USDT|{SECRETS['kafka-password']}|unset"


# --- observe ----------------------------------------------------------------------------------------------------------


async def test_workers_that_never_were_are_absent_and_answers_keep_the_order(rig: Rig, runner: Runner) -> None:
    """One status for each key, in the order of the keys."""
    await launched(runner, spec("b"))
    keys = [key("a"), key("b"), key("c")]
    seen = await runner.observe(keys)
    assert [one.key for one in seen] == keys
    assert [one.phase for one in seen] == [Phase.ABSENT, Phase.RUNNING, Phase.ABSENT]
    assert await runner.observe([]) == []


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)],
)
async def test_an_end_has_its_exit_code(rig: Rig, runner: Runner, script: str, code: int) -> None:
    """128 + n for signal n."""
    await launched(runner, spec(script=script))
    seen = await ended(runner)
    assert (seen.exit_code, seen.reason) == (code, None)
    assert seen.ref is not None
    assert seen.spec_hash == "hash-1"
    assert seen.start_time is not None
    assert seen.end_time is not None
    assert seen.start_time <= seen.end_time


async def test_a_worker_beyond_its_timeout_is_ended_and_the_runner_says_why(rig: Rig, runner: Runner) -> None:
    """Whether or not the core is there to do it."""
    await launched(runner, spec(timeout=rig.short_timeout))
    seen = await until_phase(runner, key(), Phase.ENDED, within=rig.short_timeout + PATIENCE)
    assert seen.exit_code == 143
    assert seen.reason is not None
    assert seen.reason.code is Reason.DEADLINE_EXCEEDED


async def test_workers_that_are_not_over_are_listed(rig: Rig, runner: Runner) -> None:
    """By which those are found that no record knows."""
    assert not await runner.alive()
    key = (await launched(runner, spec(script="sleep 60"))).key
    assert list(await runner.alive()) == [key]
    await runner.delete(key, grace=0.0)

    async def none() -> bool:
        return not await runner.alive()

    await until(none, within=20)


async def test_a_change_is_told_by_a_hint(rig: Rig, runner: Runner) -> None:
    """By the queue's id, at the latest when there is something new to observe."""
    woken: asyncio.Queue[str] = asyncio.Queue()
    runner.subscribe(lambda queue_id, delay=0.0: None if delay else woken.put_nowait(queue_id))
    await launched(runner, spec(script="exit 0"))
    async with asyncio.timeout(20):
        while (await status(runner)).phase is not Phase.ENDED:
            assert await woken.get() == QUEUE


@needs_pipes
async def test_what_a_worker_said_was_handed_on_before_its_end_is_told(rig: Rig, runner: Runner) -> None:
    """Where the runner carries telemetry: all of it, in order, at growing positions."""
    await launched(runner, spec(script='for n in $(seq 300); do echo "{\\"n\\":$n}"; done; exit 0'))
    seen = await ended(runner)
    assert rig.heard is not None
    assert seen.telemetry_complete
    assert rig.heard.values == [b'{"n":%d}' % n for n in range(1, 301)]
    positions = [message.position or 0 for message in rig.heard.messages]
    assert positions == sorted(set(positions))
    assert len({message.source for message in rig.heard.messages}) == 1


# --- refusals ---------------------------------------------------------------------------------------------------------


@needs_pipes
@pytest.mark.parametrize(
    ("launch", "named"),
    [
        (spec(command=()), "catalogue"),
        (spec(command=("no-such-command-anywhere",)), "no-such-command-anywhere"),
        (spec(command=("/no/such/file",)), "/no/such/file"),
        (spec(command=("/etc/passwd",)), "/etc/passwd"),
        (spec(secrets={"KAFKA_PASSWORD": "unheard-of"}), "unheard-of"),
    ],
    ids=["none", "not found", "no file", "not executable", "secret"],
)
async def test_what_can_never_start_is_refused_by_name(
    rig: Rig, runner: Runner, launch: LaunchSpec, named: str
) -> None:
    """With a reason that says what to put right."""
    answer = await runner.launch(launch)
    assert isinstance(answer, Refused)
    assert answer.key == launch.key
    assert answer.reason.code is Reason.CONFIG_ERROR
    assert named in answer.reason.message


# --- delete -----------------------------------------------------------------------------------------------------------


@needs_processes
async def test_a_deleted_worker_is_asked_to_end(rig: Rig, runner: Runner) -> None:
    """SIGTERM: what it does about it is its own affair, within its grace."""
    await launched(runner, spec(script=f"trap 'exit 7' TERM; echo > {rig.shared}/ready; while :; do sleep 0.02; done"))
    await rig.ready()
    await runner.delete(key(), grace=20)
    assert (await ended(runner)).exit_code == 7


async def test_a_worker_that_ignores_it_is_killed_when_the_grace_is_over(rig: Rig, runner: Runner) -> None:
    """SIGKILL, and not before."""
    loop = asyncio.get_running_loop()
    await launched(runner, spec(script=f"trap '' TERM; echo > {rig.shared}/ready; while :; do sleep 0.02; done"))
    await rig.ready()
    began = loop.time()
    await runner.delete(key(), grace=3.0)
    assert loop.time() < began + 3.0, "deletion does not wait"
    assert (await ended(runner)).exit_code == 137
    assert loop.time() >= began + 3.0


async def test_without_grace_it_is_killed_at_once(rig: Rig, runner: Runner) -> None:
    """FORCE: also where it would not end by itself."""
    await launched(runner, spec(script=f"trap '' TERM; echo > {rig.shared}/ready; while :; do sleep 0.02; done"))
    await rig.ready()
    await runner.delete(key(), grace=0)
    assert (await ended(runner)).exit_code == 137


@pytest.mark.parametrize("rig", [LOCAL, SCRIPTED], indirect=True)  # Kubernetes cannot: kubernetes/kubernetes#83916
async def test_a_smaller_grace_hastens_a_deletion_and_a_greater_one_does_not_delay_it(rig: Rig, runner: Runner) -> None:
    """The smallest that was asked for counts."""
    await launched(runner, spec(script=f"trap '' TERM; echo > {rig.shared}/ready; while :; do sleep 0.02; done"))
    await rig.ready()
    await runner.delete(key(), grace=300)
    await runner.delete(key(), grace=0.1)
    await runner.delete(key(), grace=300)
    assert (await ended(runner)).exit_code == 137


async def test_deleting_what_has_ended_or_never_was_does_nothing(rig: Rig, runner: Runner) -> None:
    """Idempotent, and the recorded end stays."""
    await launched(runner, spec(script="exit 3"))
    await ended(runner)
    await runner.delete(key(), grace=0)
    await runner.delete(key("never"), grace=0)
    assert (await status(runner)).exit_code == 3
    assert (await status(runner, "never")).phase is Phase.ABSENT


async def test_a_launch_under_way_takes_no_effect_after_its_deletion_is_over(rig: Rig, runner: Runner) -> None:
    """Whichever of the two comes first, nothing of it runs in the end, nor ever again."""
    for number in range(10):
        name = f"w{number}"
        launch = asyncio.ensure_future(runner.launch(spec(name)))
        for turn in range(number + 1):
            await asyncio.sleep(0.002 if turn else 0)
        await runner.delete(key(name), grace=0)

        async def over(name: str = name) -> bool:
            return (await status(runner, name)).phase in (Phase.ENDED, Phase.ABSENT)

        await until(over)
        await launch
        assert await over()


# --- the life of a server ---------------------------------------------------------------------------------------------


@needs_processes
async def test_the_next_server_finds_the_worker_that_runs(rig: Rig) -> None:
    """The same one, and it can be deleted."""
    async with rig.open() as runner:
        first = await launched(runner, spec())
    async with rig.open() as runner:
        assert (await status(runner)) == first
        assert await runner.launch(spec()) == first
        await runner.delete(key(), grace=5)
        assert (await ended(runner)).exit_code == 143


@needs_processes
async def test_the_next_server_learns_how_a_worker_ended_meanwhile_and_what_it_said(rig: Rig) -> None:
    """Nobody was there to see it."""
    async with rig.open() as runner:
        await launched(
            runner,
            spec(
                script=f'while ! [ -e {rig.shared}/go ]; do sleep 0.01; done; echo "{{}}"; echo > {rig.shared}/said; exit 5'
            ),
        )
    (rig.shared / "go").touch()
    await until((rig.shared / "said").exists)
    async with rig.open() as runner:
        seen = await ended(runner)
        assert seen.exit_code == 5
        if rig.heard is not None:
            assert seen.telemetry_complete
            assert rig.heard.values == [b"{}"]


async def test_a_forgotten_worker_is_absent(rig: Rig, runner: Runner) -> None:
    """Released before or not; what still runs is left alone."""
    for name in ("a", "b"):
        await launched(runner, spec(name, "exit 0"))
        await ended(runner, name)
    await launched(runner, spec("c"))
    keys: list[WorkerKey] = [key("a"), key("b"), key("c")]
    await runner.release(keys[:1])
    assert (await status(runner, "a")).phase is Phase.ENDED
    await runner.forget(keys)

    async def forgotten() -> bool:
        return [seen.phase for seen in await runner.observe(keys)] == [Phase.ABSENT, Phase.ABSENT, Phase.RUNNING]

    if rig.tells_at_once:
        assert await forgotten()
    await until(forgotten)
    await runner.forget(keys[:2])


async def test_a_runner_that_works_passes_its_check(rig: Rig, runner: Runner) -> None:
    """Nothing is raised."""
    await runner.check()
