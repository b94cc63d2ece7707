"""What is special about local workers, beside what every runner does (tests/contract/test_runner.py)."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from queue_manager.server.adapters.local import LocalRunner, LocalSettings
from queue_manager.server.adapters.local.directory import WorkerDirectory
from queue_manager.server.adapters.local.identity import Process
from queue_manager.server.adapters.local.shim import process
from queue_manager.server.application.ports import Message
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import Reason
from queue_manager.server.domain.observation import Phase, Refused
from tests.support.local_launches import is_ready, ready, spec_file
from tests.support.local_workers import (
    QUEUE,
    Heard,
    WallClock,
    directory,
    ended,
    key,
    launched,
    local_runner,
    shim_lives,
    shim_process,
    spec,
    status,
    until,
    worker_process,
)

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


# --- what a worker is given -------------------------------------------------------------------------------------------


async def test_nothing_of_the_servers_own_environment_reaches_a_worker_unasked(
    runner: LocalRunner, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But the few that every program needs."""
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("KAFKA_PASSWORD", "the manager's own")
    await launched(runner, spec(script=f"env > {tmp_path}/env", environment={"SYMBOL": "BTCUSDT", "TZ": "UTC"}))
    await ended(runner)
    lines = (tmp_path / "env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}  # the shell's
    assert names <= {"PATH", "HOME", "LANG", "TMPDIR", "TZ", "POD_NAME", "QM_LOCAL_TOPICS", "SYMBOL"}
    assert f"QM_LOCAL_TOPICS={data_dir}/topics" in lines
    assert "POD_NAME=w" in lines


async def test_no_secret_and_no_environment_stands_in_a_file_or_a_command_line(data_dir: Path) -> None:
    """They go through a pipe, into the worker's environment and nowhere else."""
    secret, plain = "s3cr3t-s3cr3t", "pl41n-pl41n"
    async with local_runner(data_dir, secrets={"kafka-password": secret}) as runner:
        await launched(runner, spec(environment={"A": plain}, secrets={"KAFKA_PASSWORD": "kafka-password"}))
        files = [path for path in directory(data_dir).path.iterdir() if path.is_file()]
        assert {"spec.json", "identity.json"} <= {path.name for path in files}
        for path in files:
            assert secret not in path.read_text()
            assert plain not in path.read_text()
        for one in (worker_process(data_dir), shim_process(data_dir)):
            if sys.platform.startswith("linux"):
                assert secret.encode() not in command_line(one)


@LINUX
async def test_a_worker_inherits_no_descriptor_but_its_three(runner: LocalRunner, tmp_path: Path) -> None:
    """Neither a socket of the server, which would keep its port taken, nor the shim's lock."""
    with socket_that_leaks():
        await launched(runner, spec(script=f"ls -l /proc/self/fd > {tmp_path}/fds; {ready(tmp_path)}; exec sleep 300"))
        await is_ready(tmp_path)
    inherited = [line for line in (tmp_path / "fds").read_text().splitlines() if "socket:" in line]
    assert inherited == []
    # In the end: a process that has just begun has its libraries open while it loads them.
    await until(lambda: set(descriptors(worker_process(tmp_path / "data"))) == {"0", "1", "2"})
    assert not [file for file in descriptors(shim_process(tmp_path / "data")).values() if file.startswith("socket:")]


def command_line(one: Process) -> bytes:
    """What `ps` shows of it."""
    return Path(f"/proc/{one.pid}/cmdline").read_bytes()


def descriptors(one: Process) -> dict[str, str]:
    """Its open files: number → what it is."""
    return {path.name: str(path.readlink()) for path in Path(f"/proc/{one.pid}/fd").iterdir()}


class socket_that_leaks:  # noqa: N801 - reads as what it is
    """A descriptor that is inherited, as those of some libraries are."""

    def __enter__(self) -> None:
        import socket  # noqa: PLC0415 - only here

        self._socket = socket.socket()
        self._socket.set_inheritable(True)

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def test_a_name_that_is_no_file_name_is_refused(runner: LocalRunner) -> None:
    """Never a path out of the data directory."""
    for name in ("../escape", "a/b", "", ".hidden", "x" * 300):
        answer = await runner.launch(spec(name))
        assert isinstance(answer, Refused)
        assert answer.reason.code is Reason.CONFIG_ERROR


async def test_a_variable_that_no_environment_can_hold_is_refused(runner: LocalRunner) -> None:
    """Instead of a shim that reads something else."""
    for environment in ({"A=B": "x"}, {"A": "x\0y"}, {"": "x"}):
        assert isinstance(await runner.launch(spec(environment=environment)), Refused)


async def test_a_command_that_turns_out_not_to_run_is_refused_now_and_ever_after(
    runner: LocalRunner, data_dir: Path, tmp_path: Path
) -> None:
    """Its interpreter does not exist, which only exec finds out."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    for _ in range(2):
        answer = await runner.launch(spec(command=(str(script),)))
        assert isinstance(answer, Refused)
        assert str(script) in answer.reason.message
    async with local_runner(data_dir) as following:
        seen = await status(following)
        assert (seen.phase, seen.exit_code) == (Phase.ENDED, 127)
        assert seen.reason is not None
        assert seen.reason.code is Reason.CONFIG_ERROR


async def test_no_code_of_a_worker_runs_before_it_is_on_record(
    runner: LocalRunner, data_dir: Path, tmp_path: Path
) -> None:
    """So whatever did anything is found again."""
    record = directory(data_dir).path / process.IDENTITY
    await launched(runner, spec(script=f"grep -q '\"pid\": '$$, {record} && touch {tmp_path}/recorded; exit 0"))
    await ended(runner)
    assert (tmp_path / "recorded").exists()


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_children_of_a_worker_do_not_outlive_it(runner: LocalRunner, data_dir: Path, tmp_path: Path) -> None:
    """Those in its process group; also such as ignore SIGTERM."""
    child = (
        f"(trap '' TERM; echo $$ > /dev/null; sh -c 'echo $PPID > {tmp_path}/child'; {ready(tmp_path)}; sleep 300) &"
    )
    for name, script, grace in (("a", f"{child} wait", 0.2), ("b", f"{child} sleep 0.1; exit 0", None)):
        (tmp_path / "ready").unlink(missing_ok=True)
        await launched(runner, spec(name, script))
        await is_ready(tmp_path)
        pid = int((tmp_path / "child").read_text())
        assert process.start_mark(pid) is not None
        if grace is not None:
            await runner.delete(key(name), grace=grace)
        await ended(runner, name)
        await until(lambda pid=pid: process.start_mark(pid) is None)


async def test_the_shim_goes_on_with_a_deletion_when_the_server_dies(data_dir: Path, tmp_path: Path) -> None:
    """The grace is kept by the shim."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec(script=f"trap '' TERM; {ready(tmp_path)}; while :; do sleep 0.01; done"))
        await is_ready(tmp_path)
        await runner.delete(key(), grace=0.2)
    await until(lambda: directory(data_dir).has_exit())
    async with local_runner(data_dir) as runner:
        assert (await status(runner)).exit_code == 137


async def test_a_deletion_that_a_dying_server_only_wrote_down_is_made_by_the_next(data_dir: Path) -> None:
    """The wish is on disk, the signal was never sent; the core asks again."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec())
    (directory(data_dir).path / process.STOP).write_text(f"5.000 {time.time() + 5:.3f}\n")
    async with local_runner(data_dir) as runner:
        assert (await status(runner)).phase is Phase.RUNNING
        await runner.delete(key(), grace=5.0)
        assert (await ended(runner)).exit_code == 143


async def test_a_shim_that_is_told_to_end_by_others_ends_its_worker_with_the_default_grace(
    runner: LocalRunner, data_dir: Path
) -> None:
    """The machine shuts down."""
    await launched(runner, spec())
    assert shim_process(data_dir).signal(signal.SIGTERM)
    assert (await ended(runner)).exit_code == 143


async def test_output_that_something_outside_the_group_holds_open_does_not_delay_the_end_for_ever(
    runner: LocalRunner, tmp_path: Path
) -> None:
    """A daemon that the worker left behind."""
    pid_file = tmp_path / "daemon"
    daemon = f"echo $$ > {pid_file}.tmp; mv {pid_file}.tmp {pid_file}; exec sleep 300"
    script = f"setsid sh -c '{daemon}' & while ! [ -e {pid_file} ]; do sleep 0.01; done"
    await launched(runner, spec(script=script))
    await until(pid_file.exists)
    try:
        assert (await ended(runner)).exit_code == 0
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


# --- a shim that dies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["seen by the same server", "found by the next"])
async def test_a_worker_whose_shim_was_killed_runs_until_it_is_gone(data_dir: Path, known: bool) -> None:
    """Nobody records its exit code then."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec())
        shim_process(data_dir).signal(signal.SIGKILL)
        await until(lambda: not shim_lives(data_dir, "w"))
        async with local_runner(data_dir) as following:
            watching = runner if known else following
            assert (await status(watching)).phase is Phase.RUNNING
            worker_process(data_dir).signal(signal.SIGKILL)
            seen = await ended(watching)
            assert (seen.exit_code, seen.telemetry_complete) == (None, True)
            assert (await status(watching)).ref == seen.ref


@pytest.mark.parametrize(("grace", "stubborn"), [(0.0, True), (0.2, True), (30.0, False)])
async def test_a_worker_whose_shim_was_killed_can_still_be_ended(
    runner: LocalRunner, data_dir: Path, tmp_path: Path, grace: float, stubborn: bool
) -> None:
    """The runner keeps the grace itself."""
    trap = "trap '' TERM; " if stubborn else ""
    await launched(runner, spec(script=f"{trap}{ready(tmp_path)}; while :; do sleep 0.01; done"))
    await is_ready(tmp_path)
    shim_process(data_dir).signal(signal.SIGKILL)
    await until(lambda: not shim_lives(data_dir, "w"))
    await runner.delete(key(), grace=grace)
    await ended(runner)
    assert not worker_process(data_dir).alive()


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_commands_reach_the_workers_of_their_queue_across_servers(data_dir: Path) -> None:
    """As lines on standard input, which does not end with a server."""
    heard = Heard()
    echo = 'while read -r line; do echo "{\\"$0\\":\\"$line\\"}"; done'
    async with local_runner(data_dir, heard=heard) as runner:
        for name in ("a", "b"):
            await launched(runner, spec(name, command=("/bin/sh", "-c", echo, name)))
        await launched(runner, spec("c", command=("/bin/sh", "-c", echo, "c"), queue_id="another"))
        assert runner.write(QUEUE, b"one\n") == 2
        await heard.until(lambda values: len(values) == 2)
    async with local_runner(data_dir, heard=heard) as runner:
        assert runner.write(QUEUE, b"unknown yet\n") == 0
        await runner.observe([key("a"), key("b")])
        assert runner.write(QUEUE, b"two\n") == 2
        await heard.until(lambda values: b'{"b":"two"}' in values and b'{"a":"two"}' in values)
    assert {b'{"a":"one"}', b'{"b":"one"}'} <= set(heard.values)
    assert not [value for value in heard.values if b'"c"' in value]


async def test_a_worker_that_does_not_read_never_holds_up_the_server(runner: LocalRunner, data_dir: Path) -> None:
    """What does not fit is dropped, whole lines at a time; so is what could be torn."""
    await launched(runner, spec(command=("sleep", "300")))
    line = b"x" * 400 + b"\n"
    taken = sum(runner.write(QUEUE, line) for _ in range(1000))
    assert 0 < taken < 1000
    assert runner.write(QUEUE, line) == 0
    assert runner.write(QUEUE, b"y" * 100_000 + b"\n") == 0
    await runner.delete(key(), grace=0)
    await ended(runner)
    assert runner.write(QUEUE, line) == 0


# --- output -----------------------------------------------------------------------------------------------------------


async def test_a_flood_is_read_to_its_last_line_and_never_takes_more_than_two_files(data_dir: Path) -> None:
    """With a reader that keeps up, files come and go and no line is lost."""
    heard = Heard()
    settings = LocalSettings(poll_interval=0.005, stdout_limit=64 * 1024)
    bursts = 'for n in range(4000): n % 400 or input(); print(\'{"n":%d,"pad":"%s"}\' % (n, \'x\' * 80), flush=True)'
    async with local_runner(data_dir, heard=heard, settings=settings) as runner:
        await launched(runner, spec(command=(sys.executable, "-I", "-S", "-c", bursts)))
        for burst in range(10):
            assert runner.write(QUEUE, b"go\n") == 1
            await heard.until(lambda values, burst=burst: len(values) == 400 * (burst + 1))  # type: ignore[misc]
            assert 1 <= len(list(directory(data_dir).path.glob("stdout.*"))) <= 2
        await ended(runner)
    assert [value.partition(b",")[0] for value in heard.values] == [b'{"n":%d' % n for n in range(4000)]
    positions = [message.position or 0 for message in heard.messages]
    assert positions == sorted(set(positions))
    assert positions[-1] > 4 * 64 * 1024


async def test_lines_that_are_no_json_objects_and_standard_error_are_kept_but_not_handed_on(
    runner: LocalRunner, data_dir: Path
) -> None:
    """They are the worker's log."""
    await launched(runner, spec(script='echo starting; echo "[1]"; echo oops >&2; printf "no end"; exit 0'))
    assert (await ended(runner)).telemetry_complete
    kept = {path.name.partition(".")[0]: path.read_text() for path in directory(data_dir).path.glob("std*.*")}
    assert kept == {"stdout": "starting\n[1]\nno end\n", "stderr": "oops\n"}


async def test_messages_that_could_not_be_handed_on_are_handed_on_again_before_the_end_is_told(data_dir: Path) -> None:
    """At least once, in order, and nobody learns of the end first."""
    heard, failures = Heard(), iter([True] * 5)

    def sink(messages: Sequence[Message]) -> None:
        if next(failures, False):
            raise RuntimeError("not now")
        heard(messages)

    async with local_runner(data_dir, heard=sink) as runner:
        await launched(runner, spec(script='echo "{1}"; sleep 0.05; echo "{2}"'))
        await until(lambda: has_ended(runner))
        assert heard.values == [b"{1}", b"{2}"]


async def has_ended(runner: LocalRunner) -> bool:
    """Whether its end is told."""
    try:
        return (await status(runner)).phase is Phase.ENDED
    except Unavailable:  # it has, and what it said cannot be handed on yet
        return False


async def test_a_message_is_dated_when_it_was_written_not_when_it_was_read(data_dir: Path) -> None:
    """What a worker said while no server was there is not news."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec(script='echo "{}"; exit 0'))
        await ended(runner)
    (output,) = directory(data_dir).path.glob("stdout.*")
    os.utime(output, (1_700_000_000, 1_700_000_000))
    heard = Heard()
    async with local_runner(data_dir, heard=heard) as runner:
        await ended(runner)
    assert [(message.record_time, message.position) for message in heard.messages] == [(1_700_000_000.0, 3)]


# --- housekeeping -----------------------------------------------------------------------------------------------------


async def test_released_workers_are_not_in_memory_and_are_read_again_where_someone_asks(data_dir: Path) -> None:
    """From the start, at the same positions."""
    heard = Heard()
    async with local_runner(data_dir, heard=heard) as runner:
        await launched(runner, spec(script='echo "{}"; exit 3'))
        first = await ended(runner)
        await runner.release([key()])
        assert await status(runner) == first
    assert [message.position for message in heard.messages] == [3, 3]


async def test_what_a_crash_left_of_a_forgotten_worker_is_removed_at_the_next_start(data_dir: Path) -> None:
    """It is put aside in one step first, so it is never half a worker."""
    grave = data_dir / "workers" / ".forgotten-w-12345678"
    grave.mkdir(parents=True)
    (grave / "identity.json").write_text("{}")
    async with local_runner(data_dir):
        assert not grave.exists()


async def test_a_directory_that_cannot_be_written_to_fails_the_check(tmp_path: Path) -> None:
    """Before anybody loses anything."""
    runner = LocalRunner(tmp_path / "data", sink=Heard(), clock=WallClock(), secrets={})
    await runner.open()
    try:
        await runner.check()
        (tmp_path / "data" / "workers").rmdir()
        with pytest.raises(Unavailable):
            await runner.check()
    finally:
        await runner.close()


@pytest.mark.parametrize("content", [b'{"uid": "u", "pi', b"\xff\x00"])
async def test_a_damaged_file_is_unavailable_rather_than_a_second_start(
    runner: LocalRunner, data_dir: Path, content: bytes
) -> None:
    """Nothing is decided on it."""
    directory(data_dir).grant(spec_file())
    (directory(data_dir).path / process.IDENTITY).write_bytes(content)
    with pytest.raises(Unavailable):
        await runner.launch(spec())
    with pytest.raises(Unavailable):
        await status(runner)
    (directory(data_dir).path / process.IDENTITY).unlink()


def test_a_directory_object_needs_no_directory(tmp_path: Path) -> None:
    """Asking about a worker makes nothing."""
    nobody = WorkerDirectory(tmp_path / "workers" / "nobody")
    assert nobody.inspect().phase is Phase.ABSENT
    nobody.end(0, launching=False)
    assert nobody.remove()
    assert not (tmp_path / "workers").exists()
