"""`TestServer`: a real core and real gRPC, whose workers do what the test says."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from queue_manager.client import AsyncClient, Client, Unavailable
from queue_manager.client.testing import TestServer
from queue_manager.v1.queue_pb2 import Job, JobState, Queue, QueueState, Reason
from queue_manager.v1.service_pb2 import FrameKind, StopMode

LOADER, CONNECTOR, TRAINER = "loader-producer", "arango-connector", "gnn-trainer"
TRAIN = {"target": TRAINER, "type": "gnn_train", "graph_collection": "g", "model_output": "m"}
HISTORICAL: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "time_range": "2024-06-01:2024-06-02",
    "requests": [{"target": LOADER, "type": "api_trades"}, {"target": CONNECTOR, "type": "api_trades"}, TRAIN],
}
LIVE: dict[str, Any] = {"symbol": "BTCUSDT", "requests": [{"target": LOADER, "type": "ws_trades"}]}


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
def client(server: TestServer) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def queue_id(client: Client) -> str:
    """A queue whose workers run, or are about to."""
    return client.start_queue(HISTORICAL).queue.queue_id


def job_of(queue: Queue, name: str) -> Job:
    (found,) = (job for job in queue.jobs if job.name == name)
    return found


def outcome(client: Client, queue_id: str, job: str) -> tuple[str, str, str]:
    """A job's state, its reason and the reason's message, less prefixes."""
    found = job_of(client.get_queue(queue_id), job)
    state, reason = JobState.Name(found.state), Reason.Name(found.state_reason.code)
    return state.removeprefix("JOB_STATE_"), reason.removeprefix("REASON_"), found.state_reason.message


def state_of(client: Client, queue_id: str) -> str:
    return QueueState.Name(client.get_queue(queue_id).state).removeprefix("QUEUE_STATE_")


def ended(client: Client, queue_id: str) -> Queue:
    """The queue once it has ended."""
    *_, last = client.watch(queue_id)
    assert last.kind == FrameKind.FRAME_KIND_END
    return last.queue


class TestWorkers:
    def test_they_run_until_the_test_says_what_becomes_of_them(
        self, server: TestServer, client: Client, queue_id: str
    ) -> None:
        """Each call comes back when whoever asks for the queue sees what it said."""
        server.report(queue_id, LOADER, records_written=500, progress=0.5, message="half of it")
        found = job_of(client.get_queue(queue_id), LOADER)
        assert (found.records_written, found.progress, found.message) == (500, 0.5, "half of it")
        assert state_of(client, queue_id) == "RUNNING"
        server.finish(queue_id, LOADER, records_written=1000)
        assert outcome(client, queue_id, LOADER) == ("FINISHED", "UNSPECIFIED", "")
        assert job_of(client.get_queue(queue_id), LOADER).records_written == 1000
        server.drain(queue_id, CONNECTOR)
        assert outcome(client, queue_id, CONNECTOR)[:2] == ("FINISHED", "DRAINED")
        assert state_of(client, queue_id) == "RUNNING"
        server.finish(queue_id, TRAINER)
        assert state_of(client, queue_id) == "FINISHED"

    def test_a_worker_fails_with_its_exit_code_and_its_last_words(
        self, server: TestServer, client: Client, queue_id: str
    ) -> None:
        server.fail(queue_id, TRAINER, exit_code=3, message="CUDA out of memory")
        assert outcome(client, queue_id, TRAINER) == (
            "FAILED",
            "EXIT_CODE",
            "exit code 3; its last error: CUDA out of memory",
        )
        assert job_of(client.get_queue(queue_id), TRAINER).exit_code == 3
        server.fail(queue_id, LOADER, exit_code=0, message="the exchange refuses us")
        assert outcome(client, queue_id, LOADER) == ("FAILED", "WORKER_ERROR", "the exchange refuses us")

    def test_a_worker_is_lost(self, server: TestServer, client: Client, queue_id: str) -> None:
        server.lose(queue_id, LOADER)
        assert outcome(client, queue_id, LOADER)[:2] == ("LOST", "JOB_DELETED_EXTERNALLY")

    def test_a_worker_lingers(self, server: TestServer, client: Client) -> None:
        """One that says its last word and stays is ended by the core, as ever, only sooner."""
        queue_id = client.start_queue({**HISTORICAL, "requests": [TRAIN]}).queue.queue_id
        server.report(queue_id, TRAINER, status="finished")
        ended(client, queue_id)
        assert outcome(client, queue_id, TRAINER)[:2] == ("FINISHED", "LINGERED")

    def test_rules_are_the_real_ones(self, server: TestServer, client: Client) -> None:
        """A worker that is to run until it is stopped must not finish."""
        queue_id = client.start_queue(LIVE).queue.queue_id
        server.finish(queue_id, LOADER)
        assert outcome(client, queue_id, LOADER)[:2] == ("FAILED", "ENDED_UNEXPECTEDLY")

    def test_a_job_behind_a_gate_runs_once_that_is_open(self, server: TestServer, client: Client) -> None:
        """Its worker is waited for."""
        gated = {**TRAIN, "depends_on": [{"job": LOADER}]}
        requests = [{"target": LOADER, "type": "api_trades"}, gated]
        queue_id = client.start_queue({**HISTORICAL, "requests": requests}).queue.queue_id
        with pytest.raises(RuntimeError, match=f"{TRAINER}.*PENDING.*waits for {LOADER}.*running: {LOADER}"):
            server.finish(queue_id, TRAINER)
        server.finish(queue_id, LOADER)
        server.finish(queue_id, TRAINER)
        assert state_of(client, queue_id) == "FINISHED"


class TestStops:
    def test_workers_obey_at_once(self, server: TestServer, client: Client, queue_id: str) -> None:
        """Whatever the grace."""
        stopped = client.stop_queue(queue_id, grace_period=3600, wait=True, timeout=10)
        assert stopped.state == QueueState.QUEUE_STATE_STOPPED
        assert outcome(client, queue_id, LOADER)[:2] == ("STOPPED", "STOPPED_BY_USER")

    def test_a_worker_that_ignores_it_is_killed_after_the_grace(
        self, server: TestServer, client: Client, queue_id: str
    ) -> None:
        server.ignore_stop(queue_id, LOADER)
        stopping = client.stop_queue(queue_id)
        assert stopping.state == QueueState.QUEUE_STATE_STOPPING
        assert ended(client, queue_id).state == QueueState.QUEUE_STATE_STOPPED
        assert job_of(client.get_queue(queue_id), LOADER).exit_code == 137

    def test_a_worker_that_ignores_it_can_be_kept_for_as_long_as_a_test_needs(self) -> None:
        """To look at a queue that is STOPPING; then it ends by itself."""
        with TestServer(stop_grace=3600) as server, server.client() as client:
            queue_id = client.start_queue(LIVE).queue.queue_id
            server.ignore_stop(queue_id, LOADER)
            client.stop_queue(queue_id)
            server.report(queue_id, LOADER, message="still here")
            assert state_of(client, queue_id) == "STOPPING"
            server.finish(queue_id, LOADER)
            assert state_of(client, queue_id) == "STOPPED"

    def test_force_ends_everything(self, server: TestServer, client: Client, queue_id: str) -> None:
        server.ignore_stop(queue_id, LOADER)
        stopped = client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)
        assert stopped.state == QueueState.QUEUE_STATE_STOPPED


class TestLaunches:
    def test_held_workers_wait_until_they_are_released(self, server: TestServer, client: Client) -> None:
        server.hold(TRAINER, message="0 of 3 nodes have a GPU")
        queue_id = client.start_queue(HISTORICAL).queue.queue_id
        for frame in client.watch(queue_id):
            if job_of(frame.queue, TRAINER).state == JobState.JOB_STATE_STARTING:
                break
        assert outcome(client, queue_id, TRAINER) == ("STARTING", "UNSCHEDULABLE", "0 of 3 nodes have a GPU")
        with pytest.raises(RuntimeError, match="STARTING, because its launch is held"):
            server.finish(queue_id, TRAINER)
        server.release(TRAINER)
        assert outcome(client, queue_id, TRAINER)[0] == "RUNNING"

    def test_a_queue_that_is_held_can_be_stopped(self, server: TestServer, client: Client) -> None:
        server.hold()
        queue_id = client.start_queue(LIVE).queue.queue_id
        assert client.stop_queue(queue_id, wait=True).state == QueueState.QUEUE_STATE_STOPPED

    def test_refused_workers_fail(self, server: TestServer, client: Client) -> None:
        server.refuse(LOADER, message="no such image")
        queue_id = client.start_queue(LIVE).queue.queue_id
        assert ended(client, queue_id).state == QueueState.QUEUE_STATE_FAILED
        assert outcome(client, queue_id, LOADER) == ("FAILED", "CONFIG_ERROR", "no such image")
        with pytest.raises(RuntimeError, match="is FAILED"):
            server.report(queue_id, LOADER)

    def test_workers_finish_or_fail_by_themselves(self, server: TestServer, client: Client) -> None:
        """For code that starts a queue and waits for its end; a job's own script goes before that for all."""
        server.finish_when_launched(records_written=7)
        server.fail_when_launched(TRAINER, exit_code=3, message="no GPU")
        queue = ended(client, client.start_queue(HISTORICAL).queue.queue_id)
        assert queue.state == QueueState.QUEUE_STATE_FAILED
        assert queue.records_written == 14
        assert outcome(client, queue.queue_id, LOADER)[0] == "FINISHED"
        assert outcome(client, queue.queue_id, TRAINER)[1] == "EXIT_CODE"

    def test_release_takes_everything_back(self, server: TestServer, client: Client) -> None:
        server.refuse()
        server.hold(LOADER)
        held = client.start_queue(LIVE).queue.queue_id
        for frame in client.watch(held):
            if job_of(frame.queue, LOADER).state == JobState.JOB_STATE_STARTING:
                break
        server.release()
        server.report(held, LOADER)
        server.report(client.start_queue(HISTORICAL).queue.queue_id, TRAINER)

    def test_one_job_of_all_that_are_held_can_be_released(self, server: TestServer, client: Client) -> None:
        server.hold()
        server.release(LOADER)
        queue_id = client.start_queue(HISTORICAL).queue.queue_id
        server.report(queue_id, LOADER)
        with pytest.raises(RuntimeError, match="held"):
            server.report(queue_id, TRAINER)


class TestWrongUse:
    @pytest.mark.parametrize(
        "use",
        [
            lambda server, queue_id, job: server.report(queue_id, job),
            lambda server, queue_id, job: server.finish(queue_id, job),
            lambda server, queue_id, job: server.fail(queue_id, job),
            lambda server, queue_id, job: server.lose(queue_id, job),
            lambda server, queue_id, job: server.drain(queue_id, job),
            lambda server, queue_id, job: server.ignore_stop(queue_id, job),
        ],
    )
    def test_a_queue_or_job_that_is_not_there_is_named_with_those_that_are(
        self, use: Callable[[TestServer, str, str], None], server: TestServer, queue_id: str
    ) -> None:
        with pytest.raises(LookupError, match=f"no queue 'wf-none'; there are {queue_id}"):
            use(server, "wf-none", LOADER)
        with pytest.raises(LookupError, match=f"no job 'loader'; it has {LOADER}, {CONNECTOR}, {TRAINER}"):
            use(server, queue_id, "loader")
        server.finish(queue_id, LOADER)
        with pytest.raises(RuntimeError, match=f"{LOADER}.* is FINISHED; running: {CONNECTOR}, {TRAINER}"):
            use(server, queue_id, LOADER)

    @pytest.mark.parametrize(
        "use",
        [
            lambda server: server.hold("loader"),
            lambda server: server.refuse("loader-2"),
            lambda server: server.release("loader"),
            lambda server: server.finish_when_launched("loader"),
            lambda server: server.fail_when_launched("loader"),
        ],
    )
    def test_a_name_that_no_job_ever_has_is_refused(
        self, use: Callable[[TestServer], None], server: TestServer
    ) -> None:
        """Else a script for it would just never be played."""
        with pytest.raises(LookupError, match=r"no job is ever named 'loader.*loader-producer"):
            use(server)
        server.hold("loader-producer-2")

    def test_what_no_worker_can_say_is_refused(self, server: TestServer, queue_id: str) -> None:
        """The real core would just pass it over."""
        wrong: list[Callable[[], None]] = [
            lambda: server.report(queue_id, LOADER, progress=1.5),
            lambda: server.report(queue_id, LOADER, records_written=-1),
            lambda: server.finish(queue_id, LOADER, records_written=-1),
            lambda: server.report(queue_id, LOADER, records_written=2**63),
            lambda: server.report(queue_id, LOADER, status="finishd"),  # type: ignore[arg-type]
            lambda: server.finish_when_launched(records_written=-1),
            lambda: server.fail(queue_id, LOADER, exit_code=256),
            lambda: server.fail(queue_id, LOADER, exit_code=0),
            lambda: server.fail_when_launched(exit_code=0),
        ]
        for use in wrong:
            with pytest.raises(ValueError, match=r"progress|records_written|status|exit"):
                use()

    def test_only_what_drains_and_is_fed_no_more_can_be_drained(self, server: TestServer, queue_id: str) -> None:
        with pytest.raises(RuntimeError, match="api_trades is FINITE"):
            server.drain(queue_id, LOADER)
        with pytest.raises(RuntimeError, match=f"still fed by {LOADER}"):
            server.drain(queue_id, CONNECTOR)

    def test_it_says_that_it_is_not_open(self, server: TestServer) -> None:
        closed = TestServer()
        uses: list[Callable[[], object]] = [
            lambda: closed.address,
            *(closed.client, closed.async_client, closed.disconnect, closed.hold),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="`with TestServer"):
                use()
        with pytest.raises(RuntimeError, match="open already"):
            server.__enter__()


class TestConnections:
    def test_calls_and_watches_go_on_after_a_cut(self, server: TestServer, client: Client, queue_id: str) -> None:
        server.report(queue_id, LOADER)
        cuts: list[str] = []
        frames = client.watch(queue_id, on_reconnect=lambda error, pause: cuts.append(error.reason))
        next(frames)
        server.disconnect()
        assert client.get_queue(queue_id).queue_id == queue_id
        server.report(queue_id, LOADER, message="after the cut")
        assert any(job_of(frame.queue, LOADER).message == "after the cut" for frame in frames)
        assert cuts

    def test_in_an_outage_nobody_is_reached_and_the_core_goes_on(
        self, server: TestServer, client: Client, queue_id: str
    ) -> None:
        """It comes back at the same address, with all that happened meanwhile."""
        address = server.address
        with server.outage():
            with pytest.raises(Unavailable):
                client.get_queue(queue_id, timeout=1.0)
            server.finish(queue_id, LOADER)
            with pytest.raises(RuntimeError, match="away already"):
                server.disconnect()
        assert server.address == address
        assert outcome(client, queue_id, LOADER)[0] == "FINISHED"

    def test_it_can_be_closed_in_an_outage(self) -> None:
        """A test that fails in one leaves it like that, and must not hide its own failure."""
        with pytest.raises(ZeroDivisionError), TestServer() as server, server.outage():
            raise ZeroDivisionError

    def test_it_is_healthy(self, server: TestServer) -> None:
        """For code that waits for that."""
        with grpc.insecure_channel(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(service="readiness"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


class TestLife:
    async def test_it_serves_asynchronous_tests(self) -> None:
        """Its own methods are ordinary calls there, too."""
        async with TestServer() as server, server.async_client() as client:
            assert isinstance(client, AsyncClient)
            queue_id = (await client.start_queue(HISTORICAL)).queue.queue_id
            for job in (LOADER, TRAINER):
                server.finish(queue_id, job)
            server.drain(queue_id, CONNECTOR)
            frames = [frame async for frame in client.watch(queue_id, after_revision=0)]
        assert frames[-1].queue.state == QueueState.QUEUE_STATE_FINISHED

    async def test_several_clients_of_both_kinds_watch_side_by_side(self) -> None:
        """Three event loops in one process."""
        async with TestServer() as server, server.async_client() as theirs:
            with server.client() as ours:
                queue_id = ours.start_queue(HISTORICAL).queue.queue_id
                watching = asyncio.to_thread(ended, ours, queue_id)
                both = asyncio.gather(watching, theirs.stop_queue(queue_id, wait=True))
                assert [queue.state for queue in await both] == [QueueState.QUEUE_STATE_STOPPED] * 2

    def test_servers_know_nothing_of_each_other(self, server: TestServer, client: Client, queue_id: str) -> None:
        with TestServer() as other, other.client() as theirs:
            assert other.address != server.address
            assert list(theirs.list_queues()) == []

    def test_it_can_be_opened_again_and_is_empty(self) -> None:
        server = TestServer()
        for _ in range(2):
            with server, server.client() as client:
                assert list(client.list_queues()) == []
                client.start_queue(LIVE)
        server.close()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("queue-manager")]

    def test_pytest_does_not_take_it_for_tests(self) -> None:
        """In spite of its name, in every module that imports it."""
        assert TestServer.__test__ is False


class TestLog:
    def test_it_goes_to_logging_and_not_to_standard_output(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Which belongs to the program under test; structlog is left as it was."""
        assert not structlog.is_configured()
        caplog.set_level(logging.INFO)
        with TestServer(), TestServer():
            pass
        assert not structlog.is_configured()
        assert "records loaded" in caplog.text
        assert capfd.readouterr() == ("", "")

    def test_a_program_that_has_configured_structlog_keeps_that(self) -> None:
        events: list[Any] = []

        def collect(logger: object, method: str, event: Any) -> Any:
            events.append(event["event"])
            raise structlog.DropEvent

        structlog.configure(processors=[collect])
        try:
            with TestServer():
                pass
            assert structlog.get_config()["processors"] == [collect]
        finally:
            structlog.reset_defaults()
        assert "records loaded" in events
