"""The metrics' names and values, and the endpoint that serves them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from queue_manager.server.adapters.sqlite import SqliteStore
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.errors import ListenError
from queue_manager.server.domain.history import Event, EventType, JobChange
from queue_manager.server.domain.model import JobState, QueueState, Reason, StateReason
from queue_manager.server.observability.instruments import MeteredInstruments
from queue_manager.server.observability.metrics import Metrics
from queue_manager.server.observability.metrics_server import MetricsServer
from tests.support.stored_queues import changed, create, new_queue

ROOT = Path(__file__).resolve().parents[3]


async def request(port: int, path: str = "/metrics", method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and body of an HTTP request."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample of the registry, as a scrape would see it."""
    metrics.sample()
    return metrics.registry.get_sample_value(f"queue_manager_{name}", labels)


# --- what is counted --------------------------------------------------------------------------------------------------


def test_two_servers_in_a_process_do_not_meet() -> None:
    """Nothing is global."""
    first, second = Metrics(version="1"), Metrics(version="1")
    first.call_ended("GetQueue", "OK", 0.01)
    assert value(first, "rpc_total", method="GetQueue", code="OK") == 1
    assert value(second, "rpc_total", method="GetQueue", code="OK") is None


def test_calls_are_counted_timed_and_known_while_they_run() -> None:
    """By method and code."""
    metrics = Metrics(version="1")
    began = metrics.call_began("WatchQueue")
    assert value(metrics, "rpc_in_flight", method="WatchQueue") == 1
    metrics.call_ended("WatchQueue", "CANCELLED", began - 3.0)
    assert value(metrics, "rpc_in_flight", method="WatchQueue") == 0
    assert value(metrics, "rpc_total", method="WatchQueue", code="CANCELLED") == 1
    taken = value(metrics, "rpc_duration_seconds_sum", method="WatchQueue")
    assert taken is not None
    assert 3.0 < taken < 4.0


def test_ends_are_counted_by_state_and_reason_once() -> None:
    """What the gauges forget when nothing is left to do; a later bookkeeping change does not count again."""
    metrics = Metrics(version="1")
    instruments = MeteredInstruments(metrics)
    running, _ = new_queue("wf-a", targets=("x", "y"))
    failed, _ = changed(running, state=QueueState.FAILED, job=0, job_state=JobState.FAILED)
    change = JobChange(
        job=failed.jobs[0].name,
        attempt=1,
        before=JobState.RUNNING,
        after=JobState.FAILED,
        reason=StateReason(code=Reason.EXIT_CODE),
    )
    event = Event(
        revision=2,
        time=0.0,
        type=EventType.QUEUE_STATE_CHANGED,
        before=QueueState.RUNNING,
        after=QueueState.FAILED,
        job_changes=(change,),
    )
    instruments.changed(running, failed, event)
    instruments.changed(failed, replace(failed, settled=True), None)
    assert value(metrics, "queues_ended_total", state="FAILED") == 1
    assert value(metrics, "jobs_ended_total", state="FAILED", reason="EXIT_CODE") == 1


def test_a_snapshot_is_no_sign_of_a_slow_reader() -> None:
    """It stands for all revisions so far; only what an UPDATE stands for beyond one was coalesced."""
    metrics = Metrics(version="1")
    instruments = MeteredInstruments(metrics)
    instruments.frame("SNAPSHOT", 26)
    assert value(metrics, "watch_frames_coalesced_total") == 0
    instruments.frame("UPDATE", 4)
    assert value(metrics, "watch_frames_coalesced_total") == 3


def test_the_start_latency_is_taken_once_at_the_first_telemetry() -> None:
    """From the queue's acceptance to the change that brought the first message of any of its workers."""
    metrics = Metrics(version="1")
    instruments = MeteredInstruments(metrics)
    silent, _ = new_queue("wf-a", targets=("x", "y"))
    job = silent.jobs[0]
    heard = replace(
        silent,
        jobs=(replace(job, status=replace(job.status, last_telemetry_time=1.0)), *silent.jobs[1:]),
        status=replace(silent.status, update_time=silent.spec.create_time + 2.0),
    )
    instruments.changed(None, silent, None)
    instruments.changed(silent, heard, None)
    instruments.changed(heard, heard, None)
    instruments.changed(None, heard, None)
    assert value(metrics, "start_latency_seconds_count") == 1
    assert value(metrics, "start_latency_seconds_sum") == 2.0


def test_queues_and_jobs_are_counted_by_state_until_nothing_is_left_to_do() -> None:
    """Created, changed, loaded again after having been forgotten, settled, removed: never twice, never below zero."""
    metrics = Metrics(version="1")
    instruments = MeteredInstruments(metrics)
    assert value(metrics, "queues", state="RUNNING") == 0
    assert value(metrics, "jobs", state="LOST") == 0
    first, _ = new_queue("wf-a", targets=("x", "y"))
    event = Event(revision=1, time=0.0, type=EventType.QUEUE_CREATED, before=None, after=QueueState.PENDING)
    instruments.changed(None, first, event)
    assert value(metrics, "queues", state="PENDING") == 1
    assert value(metrics, "jobs", state="PENDING") == 2
    second, _ = changed(first, state=QueueState.RUNNING, job=0)
    instruments.changed(first, second, replace(event, type=EventType.QUEUE_STATE_CHANGED))
    instruments.changed(None, second, None)
    assert value(metrics, "queues", state="PENDING") == 0
    assert value(metrics, "queues", state="RUNNING") == 1
    assert value(metrics, "jobs", state="RUNNING") == 1
    third, _ = changed(second, state=QueueState.FINISHED, job=0, job_state=JobState.FINISHED)
    instruments.changed(second, third, None)
    assert value(metrics, "queues", state="FINISHED") == 1
    settled = replace(third, settled=True)
    instruments.changed(third, settled, None)
    instruments.changed(None, settled, None)
    instruments.removed(settled)
    for state in QueueState:
        assert value(metrics, "queues", state=state.value) == 0
    for job_state in JobState:
        assert value(metrics, "jobs", state=job_state.value) == 0
    assert value(metrics, "events_total", type="QUEUE_CREATED") == 1
    assert value(metrics, "events_total", type="QUEUE_STATE_CHANGED") == 1


def test_what_the_core_tells_is_counted() -> None:
    """Each instrument moves its metric."""
    metrics = Metrics(version="1.2.3")
    instruments = MeteredInstruments(metrics)
    instruments.step("ok", 0.01)
    instruments.launched("started")
    instruments.telemetry("accepted", 5)
    instruments.published(3)
    instruments.watchers(+2)
    instruments.watchers(-1)
    instruments.frame("UPDATE", 4)
    instruments.frame("RESYNC", 1)
    assert value(metrics, "reconcile_steps_total", outcome="ok") == 1
    assert value(metrics, "reconcile_duration_seconds_count") == 1
    assert value(metrics, "worker_launches_total", outcome="started") == 1
    assert value(metrics, "telemetry_messages_total", outcome="accepted") == 5
    assert value(metrics, "published_events_total") == 3
    assert value(metrics, "watch_subscribers") == 1
    assert value(metrics, "watch_frames_total", kind="UPDATE") == 1
    assert value(metrics, "watch_frames_coalesced_total") == 3
    assert value(metrics, "watch_resyncs_total") == 1


async def test_the_store_reports_to_the_metrics(tmp_path: Path) -> None:
    """By operation and outcome."""
    metrics = Metrics(version="1")
    async with SqliteStore(tmp_path, observe=metrics.store_operation) as store:
        await asyncio.gather(*(create(store, f"wf-{number}") for number in range(5)))
        await store.list(QueueFilter(), after=None, limit=5)
    assert value(metrics, "store_operations_total", operation="create", outcome="ok") == 5
    assert value(metrics, "store_operations_total", operation="commit", outcome="ok") == 1
    assert value(metrics, "store_operation_duration_seconds_count", operation="list") == 1


def test_every_metric_follows_the_conventions() -> None:
    """Prefix, a help text, `_total` on counters only, seconds by name; and all are described."""
    metrics = Metrics(version="1")
    names = {description.name for description in metrics.descriptions}
    assert len(names) == len(metrics.descriptions)
    for description in metrics.descriptions:
        assert description.name.startswith("queue_manager_")
        assert description.help.endswith(".")
        assert (description.kind == "counter") == description.name.endswith("_total")
        assert "queue_id" not in description.labels
        if description.kind == "histogram":
            assert description.name.endswith("_seconds")
            assert "in seconds" in description.help
    served = {family.name for family in metrics.registry.collect() if family.name.startswith("queue_manager_")}
    assert served == {name.removesuffix("_total") for name in names}


# --- the endpoint -----------------------------------------------------------------------------------------------------


async def test_metrics_are_served_on_the_port_that_is_told() -> None:
    """In a format that Prometheus reads; with gauges asked for on the event loop."""
    metrics = Metrics(version="1.2.3")
    loop_thread = threading.current_thread()

    def depth() -> float:
        assert threading.current_thread() is loop_thread
        return 7.0

    metrics.samples.reconcile_queue_depth = depth
    metrics.samples.reconcile_oldest_key_age = lambda: asyncio.get_running_loop().time() * 0 + 1.5
    async with MetricsServer(metrics, host="127.0.0.1", port=0) as server:
        assert server.port > 0
        status, body = await request(server.port)
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert families["queue_manager_reconcile_queue_depth"].samples[0].value == 7.0
    assert families["queue_manager_reconcile_oldest_key_age_seconds"].samples[0].value == 1.5
    assert families["queue_manager_build_info"].samples[0].labels["version"] == "1.2.3"
    assert "process_resident_memory_bytes" in families


@pytest.mark.parametrize("path", ["/", "/metric", "/favicon.ico", "/metrics/x", "//etc/passwd"])
async def test_anything_else_is_not_found(path: str) -> None:
    """It says where the metrics are."""
    async with MetricsServer(Metrics(version="1"), host="127.0.0.1", port=0) as server:
        assert await request(server.port, path) == (404, "metrics are at /metrics\n")


async def test_other_methods_are_refused() -> None:
    """Nothing can be changed here."""
    async with MetricsServer(Metrics(version="1"), host="127.0.0.1", port=0) as server:
        assert (await request(server.port, method="POST"))[0] == 405


async def test_a_name_is_listened_on_too() -> None:
    """`localhost` resolves."""
    async with MetricsServer(Metrics(version="1"), host="localhost", port=0) as server:
        assert (await request(server.port, host="localhost"))[0] == 200


async def test_a_port_in_use_is_an_error_that_names_it() -> None:
    """And the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"QM_METRICS_LISTEN: cannot listen on 127\.0\.0\.1:{port} \("):
            async with MetricsServer(Metrics(version="1"), host="127.0.0.1", port=port):
                pass


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
async def test_an_address_of_another_machine_is_an_error(host: str) -> None:
    """A name that nobody knows too."""
    with pytest.raises(ListenError, match="QM_METRICS_LISTEN"):
        async with MetricsServer(Metrics(version="1"), host=host, port=0):
            pass


async def test_closing_cuts_off_idle_clients_and_frees_the_port() -> None:
    """At once, with no thread left."""
    async with MetricsServer(Metrics(version="1"), host="127.0.0.1", port=0) as server:
        port = server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
        await writer.drain()
        await request(port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert "metrics-server" not in {thread.name for thread in threading.enumerate()}
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_many_scrapes_at_once_are_all_answered() -> None:
    """While others count."""
    metrics = Metrics(version="1")
    async with MetricsServer(metrics, host="127.0.0.1", port=0) as server:
        answers = await asyncio.gather(*(request(server.port) for _ in range(20)))
    assert {status for status, _ in answers} == {200}


def test_the_reference_is_fresh() -> None:
    """`docs/metrics.md` is what the code says."""
    script = ROOT / "scripts" / "metrics_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
