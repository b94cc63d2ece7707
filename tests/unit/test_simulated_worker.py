"""The simulated worker, run as the local runner runs it: an environment, standard input and output, signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from queue_manager.server.adapters.inprocess.topics import DataTopic
from queue_manager.server.domain.telemetry import read
from queue_manager.server.simulated_worker.settings import OUTCOMES, Settings, kind_of, target_of
from tests.support import running_worker
from tests.support.local_workers import PATIENCE
from tests.support.running_worker import Running

QUEUE = "wf-btcusdt-api-trades-20240601-a1b2c3"
TOPIC = f"{QUEUE}-api-trades"
GROUP = f"arango-connector-consumer-{QUEUE}"
MODULE = (sys.executable, "-m", "queue_manager.server.simulated_worker")


@contextlib.asynccontextmanager
async def worker(
    target: str = "loader-producer",
    type: str = "api_trades",  # noqa: A002 - the field's name
    *,
    topics: Path | None = None,
    **simulate: object,
) -> AsyncIterator[Running]:
    """Start one, and end it if it has not ended."""
    environment = {
        "PATH": os.environ["PATH"],
        "QUEUE_ID": QUEUE,
        "SYMBOL": "BTCUSDT",
        "TYPE": type,
        "TELEMETRY_PRODUCER_ID": f"{target}__a1b2c3",
        "KAFKA_TOPIC": TOPIC,
        "TELEMETRY_INTERVAL": "0.02",
        "SIMULATE_DURATION": "0.2",
    }
    if topics is not None:
        environment["QM_LOCAL_TOPICS"] = str(topics)
    environment |= {name.upper(): str(value) for name, value in simulate.items()}
    async with running_worker.running(*MODULE, environment=environment) as running:
        yield running


async def test_a_loader_reports_its_progress_and_finishes() -> None:
    """As a worker of the platform does, so that the intake can read it."""
    async with worker(simulate_records=500) as running:
        assert await running.end() == 0
    assert running.states == ["started", "loading", "finished"]
    reports = [read(json.dumps(message).encode(), time.time()) for message in running.said]
    assert {(report.queue_id, report.telemetry_id) for report in reports} == {(QUEUE, "loader-producer__a1b2c3")}
    records = [report.records_written or 0 for report in reports]
    assert records == sorted(records)
    assert records[-1] == 500
    progress = [report.progress for report in reports if report.progress is not None]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert [report.final for report in reports] == [False] * (len(reports) - 1) + [True]
    assert abs(reports[0].time - time.time()) < PATIENCE


async def test_a_ping_of_its_queue_is_answered_and_no_other() -> None:
    """With the time that it carried, and no status: it is never final."""
    async with worker(type="ws_trades") as running:
        await running.hear("started")
        sent_at = round(time.time(), 3)
        running.command(command="ping", queue_id="another", sent_at=sent_at - 1)
        running.command(command="ping", queue_id=QUEUE, sent_at=sent_at)
        pong = await running.hear("pong")
    assert pong["ping_ts"] == sent_at
    report = read(json.dumps(pong).encode(), time.time())
    assert (report.status, report.ping_sent_at, report.final) == ("pong", sent_at, False)


@pytest.mark.parametrize("how", ["command", "signal"])
async def test_told_to_stop_it_says_interrupted_then_finished_and_exits_0(how: str) -> None:
    """By the command for its queue, or by SIGTERM."""
    async with worker(type="ws_trades") as running:
        await running.hear("loading")
        running.command(command="stop", queue_id="another")
        running.command(command="simulate-loading", queue_id=QUEUE)
        if how == "command":
            running.command(command="stop", queue_id=QUEUE, timestamp=1.0)
        else:
            os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0
    assert running.states == ["started", "loading", "interrupted", "finished"]
    assert [message["finished"] for message in running.said[-2:]] == [False, True]


async def test_it_goes_on_when_nobody_can_send_commands_or_read_any_more() -> None:
    """A closed standard input is no stop."""
    async with worker(type="ws_trades") as running:
        await running.hear("loading")
        assert running.process.stdin is not None
        running.process.stdin.close()
        for _ in range(3):
            await running.hear("loading")


@pytest.mark.parametrize(
    ("target", "type"),
    [
        ("loader-producer", "ws_candles_1m"),
        ("arango-connector", "api_trades"),
        ("graph-builder", "realtime_graph"),
        ("gnn-trainer", "realtime_gnn_infer"),
        ("visualizer", "graph_metrics_stream"),
    ],
)
async def test_an_endless_kind_works_on_until_it_is_stopped(target: str, type: str) -> None:  # noqa: A002 - the field's name
    """Longer than its duration, which is only the span that its records are meant for."""
    async with worker(target, type, simulate_duration=0.05) as running:
        for _ in range(8):  # 8 intervals of 0.02 s
            message = await running.hear("loading")
            assert "progress" not in message
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0
    assert running.states[-2:] == ["interrupted", "finished"]


async def test_a_trainer_counts_epochs_and_its_loss_falls() -> None:
    """As details of its reports."""
    async with worker("gnn-trainer", "gnn_train", epochs=7) as running:
        assert await running.end() == 0
    extras = [message["extra"] for message in running.said if message["status"] == "loading"]
    assert [extra["epoch"] for extra in extras] == sorted(extra["epoch"] for extra in extras)
    assert extras[-1]["loss"] < extras[0]["loss"]
    assert running.said[-1]["records_written"] == 7


async def test_a_connector_saves_what_its_loader_wrote_from_where_its_group_was(tmp_path: Path) -> None:
    """And commits it, so that the manager sees that there is no lag."""
    topic = DataTopic(str(tmp_path), TOPIC)
    async with worker("loader-producer-2", topics=tmp_path, simulate_records=300) as loader:
        assert await loader.end() == 0
    assert topic.read(0)[0] == 300
    assert topic.lag(GROUP) > 0
    for expected in (300, 0):
        async with worker("arango-connector", topics=tmp_path) as connector:
            while (await connector.hear("loading"))["records_written"] < expected:
                pass
            assert topic.lag(GROUP) == 0
            connector.command(command="stop", queue_id=QUEUE)
            assert await connector.end() == 0
            assert connector.said[-1]["records_written"] == expected


# --- how it ends ------------------------------------------------------------------------------------------------------


async def test_an_exit_code_can_be_ordered() -> None:
    """With an error that says so."""
    async with worker(simulate_exit_code=3) as running:
        assert await running.end() == 3
    assert running.states == ["started", "loading", "error"]


async def test_an_error_can_be_reported_with_exit_code_0() -> None:
    """As today's real workers do."""
    async with worker(simulate_outcome="error_exit_0") as running:
        assert await running.end() == 0
    last = read(json.dumps(running.said[-1]).encode(), time.time())
    assert (last.status, last.error, last.final) == ("error", "the simulated error", True)


async def test_it_can_crash_half_way() -> None:
    """By SIGKILL, without a last word."""
    async with worker(simulate_outcome="crash") as running:
        assert await running.end() == -signal.SIGKILL
    assert running.states == ["started", "loading"]
    assert running.said[-1]["progress"] <= 0.55


async def test_it_can_hang_half_way() -> None:
    """It hears no command, but SIGTERM ends it as it ends any program."""
    async with worker(simulate_outcome="hang", simulate_duration=0.1) as running:
        await running.hear("started")
        await running.falls_silent(0.5)
        running.command(command="stop", queue_id=QUEUE)
        running.command(command="ping", queue_id=QUEUE)
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == -signal.SIGTERM


async def test_it_can_linger_after_its_last_word() -> None:
    """Until it is stopped; it still answers."""
    async with worker(simulate_outcome="linger") as running:
        assert (await running.hear("finished"))["finished"] is True
        running.command(command="ping", queue_id=QUEUE, sent_at=1.0)
        await running.hear("pong")
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0


async def test_it_can_be_silent() -> None:
    """Not a word, not even a pong."""
    async with worker(simulate_outcome="silent") as running:
        running.command(command="ping", queue_id=QUEUE, sent_at=1.0)
        assert await running.end() == 0
    assert running.said == []


async def test_it_can_ignore_that_it_is_told_to_stop() -> None:
    """Command and signal; it works to its end."""
    async with worker(simulate_ignore_stop="true", simulate_duration=0.3) as running:
        await running.hear("loading")
        running.command(command="stop", queue_id=QUEUE)
        os.kill(running.pid, signal.SIGTERM)
        assert await running.end() == 0
    assert running.states == ["started", "loading", "finished"]


async def test_an_endless_kind_ends_when_that_is_ordered() -> None:
    """So that a connection that was cut off can be shown."""
    async with worker(type="ws_trades", simulate_outcome="finish") as running:
        assert await running.end() == 0
    assert running.states == ["started", "loading", "finished"]


def test_an_outcome_that_there_is_not_ends_it_at_once() -> None:
    """With the ones that there are."""
    done = subprocess.run(
        MODULE, env={"SIMULATE_OUTCOME": "explode"}, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 2
    assert all(outcome in done.stderr.decode() for outcome in OUTCOMES)


# --- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("telemetry_id", "target"),
    [
        ("loader-producer__a1b2c3", "loader-producer"),
        ("loader-producer-12__a1b2c3", "loader-producer"),
        ("my__odd-target-2__a1b2c3", "my__odd-target"),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_its_target_stands_in_its_telemetry_id(telemetry_id: str, target: str) -> None:
    """No variable names it."""
    assert target_of(telemetry_id) == target


@pytest.mark.parametrize(
    ("target", "type", "kind"),
    [
        ("loader-producer", "api_candles_5m", "loader"),
        ("arango-connector", "api_candles_5m", "connector"),
        ("arango-orderbook-connector", "ws_depth", "connector"),
        ("graph-builder", "gnn_graph", "graph-builder"),
        ("gnn-trainer", "gnn_train", "trainer"),
        ("visualizer", "graph_metrics_stream", "visualizer"),
        ("somebodys-own", "ws_news", "loader"),
        ("somebodys-own", "sentiment", "visualizer"),
    ],
)
def test_its_target_and_type_say_what_it_does(target: str, type: str, kind: str) -> None:  # noqa: A002 - the field's name
    """Also those of operators."""
    assert kind_of(target, type) == kind


def test_the_historical_pipeline_takes_10_to_20_seconds_by_itself() -> None:
    """So a demonstration is short, and yet there is something to see. What drains takes a few seconds more."""
    pipeline = (("loader-producer", "api_candles_5m"), ("graph-builder", "gnn_graph"), ("gnn-trainer", "gnn_train"))
    all_settings = [Settings({"TYPE": type_}, [target]) for target, type_ in pipeline]
    assert not any(settings.endless for settings in all_settings)
    assert 10 <= max(settings.duration for settings in all_settings) <= 17


def test_it_starts_quickly_because_it_imports_little() -> None:
    """What would make it slow is named here rather than timed."""
    code = "import queue_manager.server.simulated_worker.__main__, sys; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert {"aiokafka", "grpc", "msgspec", "pydantic", "structlog", "typer"}.isdisjoint(output.split())
