"""The server's process: how it starts, refuses to, serves what operators need, and goes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2, service_pb2, service_pb2_grpc
from tests.e2e.conftest import payload
from tests.e2e.server_process import ServerProcess
from tests.support.local_workers import until

SIMPLE: dict[str, Any] = {"symbol": "BTCUSDT", "requests": [{"target": "loader-producer", "type": "ws_trades"}]}


async def refused(server: ServerProcess) -> str:
    """What a server says that does not start; it must exit with 2, without a traceback."""
    await server.start(wait=False)
    assert server._process is not None
    code = await asyncio.wait_for(server._process.wait(), 20)
    await server.kill()
    text = "\n".join(str(line["event"]) for line in server.log)
    assert code == 2, text
    assert "Traceback" not in text
    return text


async def test_health_names_what_the_design_lists(server: ServerProcess) -> None:
    """The four services and the service itself are SERVING; an unknown one is NOT_FOUND."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", "queue_manager.v1.QueueManager", "liveness", "readiness", "startup"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_knows_every_service(server: ServerProcess, version: str) -> None:
    """Reflection v1 and v1alpha list the services, and answer the file of ours."""
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="queue_manager.v1.QueueManager"),
    ]
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter(requests))
        answers = [answer async for answer in call]
    names = {service.name for service in answers[0].list_services_response.service}
    assert names >= {"queue_manager.v1.QueueManager", "grpc.health.v1.Health"}
    assert {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")} <= names
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_metrics_are_served_and_move(server: ServerProcess, client: AsyncClient) -> None:
    """Calls, queues by state, store operations and reconcile steps are there after a queue was started."""
    started = await client.start_queue(SIMPLE)
    await client.stop_queue(started.queue.queue_id, wait=True, grace_period=5)
    url = f"http://{server.metrics_address}/metrics"
    text = (await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())).decode()
    assert 'queue_manager_rpc_total{code="OK",method="StartQueue"} 1.0' in text
    for metric in ("reconcile_steps_total", "store_operations_total", "events_total", "worker_launches_total"):
        assert f"queue_manager_{metric}{{" in text


async def test_the_start_up_lines_say_which_parts_run(tmp_path: Path) -> None:
    """And that ArangoDB and Kafka, where they are set, are handed to workers and join later."""
    environment = {"ARANGO_URL": "http://db:8529", "ARANGO_DB": "d", "ARANGO_USER": "u", "ARANGO_PASSWORD": "secret-7"}
    async with ServerProcess(tmp_path, **environment) as server:
        parts = {line["part"]: line for line in server.log if line.get("event") == "part"}
        assert {name: line["choice"] for name, line in parts.items()} == {
            "store": "sqlite",
            "runner": "local",
            "bus": "in-process",
        }
        assert "ArangoDB as the store joins in a later version" in parts["store"]["why"]
        async with AsyncClient(server.address) as client:
            started = await client.start_queue(SIMPLE, validate_only=True)
            assert started.plan[0].environment["ARANGO_URL"] == "http://db:8529"
            assert "ARANGO_PASSWORD" in started.plan[0].secret_environment
            assert "secret-7" not in str(started)
        assert "secret-7" not in json.dumps(server.log)


async def test_sigterm_ends_streams_then_calls_then_the_process(server: ServerProcess) -> None:
    """A watcher gets UNAVAILABLE after its last frame, a waiting call its answer, the server exits with 0."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.QueueManagerStub(channel)
        request = service_pb2.StartQueueRequest(symbol="BTCUSDT")
        request.requests.add(target="loader-producer", type="ws_trades", parameters={"simulate_ignore_stop": "true"})
        queue_id = (await stub.StartQueue(request)).queue.queue_id
        watch = stub.WatchQueue(service_pb2.WatchQueueRequest(queue_id=queue_id))
        frames = aiter(watch)
        assert (await anext(frames)).kind == service_pb2.FRAME_KIND_SNAPSHOT
        waiting = stub.StopQueue(service_pb2.StopQueueRequest(queue_id=queue_id, wait=True), timeout=60)
        while (await anext(frames)).queue.state != queue_pb2.QUEUE_STATE_STOPPING:
            pass
        ended = asyncio.create_task(server.terminate())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exhaust(frames)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert details(caught.value, error_details_pb2.ErrorInfo).reason == "SHUTTING_DOWN"
        assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds >= 1
        answer = await waiting
        assert answer.queue.state == queue_pb2.QUEUE_STATE_STOPPING
        assert await ended == 0
    assert server.log[-1]["event"] == "stopped"


async def test_each_stop_has_its_own_event_with_caller_and_reason(server: ServerProcess) -> None:
    """Also one that hastens a stop under way."""
    alice, bob = (AsyncClient(server.address, requested_by=name) for name in ("alice", "bob"))
    async with alice, bob:
        ignoring = {**SIMPLE["requests"][0], "parameters": {"simulate_ignore_stop": "true"}}
        queue_id = (await alice.start_queue({**SIMPLE, "requests": [ignoring]})).queue.queue_id
        async for frame in alice.watch(queue_id):
            if frame.queue.jobs[0].state == queue_pb2.JOB_STATE_RUNNING:
                break
        await alice.stop_queue(queue_id, reason="A")
        await bob.stop_queue(queue_id, mode=service_pb2.STOP_MODE_FORCE, reason="B", wait=True, timeout=30)
        events = [frame.event async for frame in alice.watch(queue_id, after_revision=0)]
    stops = [(e.actor, e.message) for e in events if e.type == queue_pb2.EVENT_TYPE_STOP_REQUESTED]
    assert stops == [
        ("alice", "GRACEFUL stop requested by alice: A"),
        ("bob", "FORCE stop requested by bob: B"),
    ]


async def test_a_waiting_stop_needs_no_watcher_slot(tmp_path: Path) -> None:
    """It blocks until the stop is confirmed, also where no more watchers are let in."""
    async with ServerProcess(tmp_path, QM_MAX_WATCHERS="1") as server, AsyncClient(server.address) as client:
        queue_id = (await client.start_queue(SIMPLE)).queue.queue_id
        frames = client.watch(queue_id)
        await anext(frames)
        queue = await client.stop_queue(queue_id, wait=True, timeout=30)
        assert queue.state == queue_pb2.QUEUE_STATE_STOPPED
        await frames.aclose()


def details(error: grpc.aio.AioRpcError, kind: type[Any]) -> Any:
    """The detail of this type that an error carries."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                if packed.Is(kind.DESCRIPTOR):
                    found = kind()
                    packed.Unpack(found)
                    return found
    raise AssertionError(f"no {kind.__name__}")


async def test_workers_outlive_a_shutdown_and_are_found_again(server: ServerProcess) -> None:
    """SIGTERM ends the server, not its workers; the next server goes on with them."""
    async with AsyncClient(server.address) as client:
        queue_id = (await client.start_queue(SIMPLE)).queue.queue_id
        async for frame in client.watch(queue_id):
            if frame.queue.jobs[0].state == queue_pb2.JOB_STATE_RUNNING:
                break
        assert await server.terminate() == 0
        pids = server.worker_pids()
        assert [len(each) for each in pids.values()] == [1]
        await server.start()
        assert server.worker_pids() == pids
        queue = await client.stop_queue(queue_id, wait=True, timeout=30)
        assert queue.state == queue_pb2.QUEUE_STATE_STOPPED
        assert not server.worker_pids()


async def test_a_port_in_use_is_refused(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It names the variable and the address."""
    second = ServerProcess(tmp_path_factory.mktemp("second"), QM_GRPC_LISTEN=server.address)
    text = await refused(second)
    assert "QM_GRPC_LISTEN" in text
    assert server.address in text


async def test_a_data_directory_in_use_is_refused(server: ServerProcess) -> None:
    """Two servers on one state file would be two writers."""
    second = ServerProcess(server.folder)
    text = await refused(second)
    assert str(server.data) in text


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
async def test_a_broken_state_file_is_refused_and_left_alone(server: ServerProcess, damage: str) -> None:
    """It says what to do and deletes nothing."""
    async with AsyncClient(server.address) as client:
        await client.start_queue(json.loads(payload("historical").read_text()))
    await server.terminate()
    file = server.data / "queues.sqlite3"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = file.read_bytes()
    broken = b"this is no database" * 100 if damage == "garbage" else whole[: len(whole) // 2 - 100]
    file.write_bytes(broken)
    text = await refused(server)
    assert str(file) in text
    assert file.read_bytes() == broken


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092", "KAFKA_USER": "u"}, "KAFKA_PASSWORD"),
        ({"ARANGO_URL": "http://db:8529"}, "ARANGO_DB"),
        ({"QM_RETENTION": "soon"}, "QM_RETENTION"),
        ({"QM_RUNNER": "nomad"}, "QM_RUNNER"),
    ],
)
async def test_settings_that_cannot_be_are_refused(tmp_path: Path, environment: dict[str, str], missing: str) -> None:
    """A half-set group names what is missing; a bad value names its variable."""
    assert missing in await refused(ServerProcess(tmp_path, **environment))


async def test_a_dot_env_file_is_read(tmp_path: Path) -> None:
    """Settings come from `.env` in the working directory too; the process environment has precedence."""
    (tmp_path / ".env").write_text("QM_LOG_LEVEL=debug\nLOADER_IMAGE=registry.example/loader:7\n")
    async with ServerProcess(tmp_path) as server, AsyncClient(server.address) as client:
        started = await client.start_queue(SIMPLE, validate_only=True)
        assert started.plan[0].image == "registry.example/loader:7"


async def exhaust(frames: AsyncIterator[object]) -> None:
    """Read a stream to its end."""
    async for _ in frames:
        pass


async def test_probe_tells_how_a_server_is(server: ServerProcess, tmp_path: Path) -> None:
    """For those who can only run a command: in words, and by the exit code."""

    async def probed(*arguments: str, timeout: int = 10) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "queue_manager.server", "probe", "--timeout", str(timeout), *arguments),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode().strip()

    for part in ("readiness", "liveness", "startup"):
        assert await probed(part, "--server", server.address) == (0, "SERVING")
    assert await probed("--server", "127.0.0.1:1", timeout=1) == (1, "no answer from 127.0.0.1:1 within 1 s")
    (server.data / "workers").rename(tmp_path / "elsewhere")

    async def told() -> bool:
        code, text = await probed("--server", server.address)
        return code == 1 and text.startswith("NOT_SERVING; runner: ") and "workers is not there" in text

    await until(told, within=20)
