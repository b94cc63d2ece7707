"""Live streams over HTTP, in front of a real server: nothing lost, nothing doubled, whoever is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import grpc
import pytest

from queue_manager.client import AsyncClient
from queue_manager.gateway import app, streaming
from queue_manager.gateway.options import Options
from queue_manager.v1 import service_pb2
from queue_manager.v1.service_pb2 import StopMode
from tests.e2e.conftest import payload
from tests.e2e.server_process import ServerProcess
from tests.support.event_stream import EventStream
from tests.support.gateway_process import GatewayProcess
from tests.support.web import Web, gateway

REALTIME = json.loads(payload("realtime").read_text())
HISTORICAL = json.loads(payload("historical").read_text())


async def started(client: AsyncClient, request: object = REALTIME) -> str:
    """A queue."""
    return (await client.start_queue(request)).queue.queue_id  # type: ignore[arg-type]


async def test_a_queue_from_its_start_to_its_end(web: Web, client: AsyncClient) -> None:
    """Every revision, by events; then the same by lines, which are the same frames."""
    queue_id, stream = await started(client, HISTORICAL), EventStream()
    async with web.session.get(f"{web.url}/v1/queues/{queue_id}:watch") as answer:
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        kinds = [event.event async for event in stream.read(answer)]
    assert kinds[0] == "SNAPSHOT"
    assert kinds[-1] == "END"
    assert set(kinds[1:-1]) == {"UPDATE"}
    final = stream.events[-1].data["queue"]
    assert final["state"] == "QUEUE_STATE_FINISHED"
    assert int(final["revision"]) == stream.last == (await client.get_queue(queue_id)).revision
    url = f"{web.url}/v1/queues/{queue_id}:watch?after_revision=0"
    async with web.session.get(url, headers={"Accept": "application/x-ndjson"}) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
        lines = [json.loads(line) async for line in answer.content]
    assert sum(int(line["revisions_merged"]) for line in lines) == stream.last
    assert lines[-1] == stream.events[-1].data


async def test_who_comes_back_goes_on(web: Web, client: AsyncClient) -> None:
    """By Last-Event-ID, which goes before what the query said at first; a queue that has ended says so again."""
    queue_id, stream = await started(client), EventStream()
    url = f"{web.url}/v1/queues/{queue_id}:watch?after_revision=0"
    for _ in range(5):
        headers = {"Last-Event-ID": str(stream.last)} if stream.last else {}
        async with web.session.get(url, headers=headers) as answer:
            async for event in stream.read(answer):
                if event.event != "END" and stream.last > 3:
                    break
    await client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)
    async with web.session.get(url, headers={"Last-Event-ID": str(stream.last)}) as answer:
        assert [event async for event in stream.read(answer)][-1].event == "END"
    async with web.session.get(url, headers={"Last-Event-ID": str(stream.last)}) as answer:
        assert [event.event async for event in stream.read(answer)] == ["END"]
    _, told, _ = await web.ask("GET", f"/v1/queues/{queue_id}:watch", headers={"Last-Event-ID": str(stream.last + 1)})
    assert told["code"] == 11  # OUT_OF_RANGE


async def test_a_server_that_is_killed_and_comes_back(server: ServerProcess, client: AsyncClient) -> None:
    """Readers stay connected, are told that it is away, and lose nothing."""
    queue_id = await started(client, HISTORICAL)
    async with gateway(server.address) as web:
        streams = [EventStream() for _ in range(20)]

        async def follow(stream: EventStream) -> None:
            async with web.session.get(f"{web.url}/v1/queues/{queue_id}:watch") as answer:
                async for _ in stream.read(answer):
                    pass

        reading = asyncio.gather(*(follow(stream) for stream in streams))
        for _ in range(2):
            before = streams[0].last
            async with asyncio.timeout(20):
                while streams[0].last <= before:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)
            await server.kill()
            await asyncio.sleep(0.5)  # a real pause: what readers see of it is the test
            assert not reading.done()
            await server.start()
        async with asyncio.timeout(60):
            await reading
    for stream in streams:
        assert stream.events[-1].event == "END"
        assert any("away" in comment for comment in stream.comments)
        assert "ERROR" not in {event.event for event in stream.events}
    assert len({stream.last for stream in streams}) == 1


async def test_a_gateway_that_is_killed(server: ServerProcess, client: AsyncClient, tmp_path: Path) -> None:
    """Readers go on at the next one from where they were."""
    queue_id, stream = await started(client, HISTORICAL), EventStream()
    async with (
        GatewayProcess(server.address, tmp_path) as running,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
    ):
        while not stream.events or stream.events[-1].event != "END":
            headers = {"Last-Event-ID": str(stream.last)} if stream.last else {}
            try:
                async with session.get(f"{running.url}/v1/queues/{queue_id}:watch", headers=headers) as answer:
                    async for event in stream.read(answer):
                        if event.event == "UPDATE" and len(stream.events) in {3, 6}:
                            await running.kill()
            except aiohttp.ClientError:
                await running.start()
    assert stream.events[-1].data["queue"]["state"] == "QUEUE_STATE_FINISHED"


async def test_many_readers_are_one_stream_and_leave_none_behind(
    web: Web, server: ServerProcess, client: AsyncClient
) -> None:
    """The server has one watch of a queue, and none once they have gone, however they go."""
    queue_id = await started(client)
    path = f"/v1/queues/{queue_id}:watch"
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode()
    opened = []
    for _ in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(head)
        opened.append((reader, writer))
    for reader, _ in opened:
        assert b"event: SNAPSHOT" in await reader.readuntil(b"event: SNAPSHOT")
    assert await watchers(server) == 1.0
    for number, (_, writer) in enumerate(opened):
        (writer.transport.abort if number % 2 else writer.close)()
    async with asyncio.timeout(10):
        while await watchers(server) != 0.0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    await client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)


@asynccontextmanager
async def played(**methods: Any) -> AsyncIterator[str]:
    """A server that has these methods only; its address."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("queue_manager.v1.QueueManager", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


class Hanging:
    """A call that is never answered."""

    def __init__(self) -> None:
        """Nobody has called yet."""
        self.began, self.cancelled = asyncio.Event(), asyncio.Event()

    async def answer(self, _request: bytes, _context: object) -> bytes:
        """The method."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        return b""


async def test_who_goes_cancels_the_call() -> None:
    """Nobody waits for an answer any more: the server is told."""
    call = Hanging()
    async with played(GetQueue=grpc.unary_unary_rpc_method_handler(call.answer)) as address, gateway(address) as web:
        asking = asyncio.create_task(web.ask("GET", "/v1/queues/q"))
        async with asyncio.timeout(10):
            await call.began.wait()
            asking.cancel()
            await call.cancelled.wait()
        await asyncio.gather(asking, return_exceptions=True)


async def test_a_gateway_that_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in flight get their time, then an answer; the end comes when it is said to."""
    monkeypatch.setattr(app, "FINISHING", 3.0)
    call = Hanging()
    async with (
        played(GetQueue=grpc.unary_unary_rpc_method_handler(call.answer)) as address,
        aiohttp.ClientSession() as session,
    ):
        async with app.running(Options(port=0, server=address)) as url:
            asking = asyncio.create_task(session.get(f"{url}/v1/queues/q"))
            async with asyncio.timeout(10):
                await call.began.wait()
            began = monotonic()
        assert monotonic() - began < 3.5
        answer = await asking
        assert (answer.status, (await answer.json())["details"][0]["reason"]) == (503, "SHUTTING_DOWN")


async def test_who_knows_more_than_the_gateway_is_let_in_and_told_of_its_end() -> None:
    """As soon as the server says so, which has nothing new to tell; a reader that waits is no reason to wait."""

    async def quiet(raw: bytes, context: Any) -> AsyncIterator[bytes]:
        if not service_pb2.WatchQueueRequest.FromString(raw).HasField("after_revision"):
            frame = service_pb2.WatchQueueResponse(kind=service_pb2.FRAME_KIND_SNAPSHOT, revision=1, revisions_merged=1)
            yield frame.SerializeToString()
        else:
            await context.send_initial_metadata(())
        await asyncio.Event().wait()

    async with (
        played(WatchQueue=grpc.unary_stream_rpc_method_handler(quiet)) as address,
        aiohttp.ClientSession() as session,
        asyncio.timeout(10),
    ):
        async with app.running(Options(port=0, server=address)) as url:
            behind = await session.get(f"{url}/v1/queues/q:watch")
            ahead = await session.get(f"{url}/v1/queues/q:watch?after_revision=5")
            assert (behind.status, ahead.status) == (200, 200)
            began = monotonic()
        assert monotonic() - began < 2.0
        for stream in (behind, ahead):
            assert "SHUTTING_DOWN" in await stream.text()


async def test_a_reader_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its connection, and what is buffered for it."""
    monkeypatch.setattr(streaming, "STUCK", 0.5)

    async def flood(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        frame = service_pb2.WatchQueueResponse(kind=service_pb2.FRAME_KIND_SNAPSHOT, revision=1, revisions_merged=1)
        frame.queue.message = "x" * 100_000
        for frame.revision in range(1, 10_000):
            yield frame.SerializeToString()
            frame.kind = service_pb2.FRAME_KIND_UPDATE
            await asyncio.sleep(0.001)

    async with played(WatchQueue=grpc.unary_stream_rpc_method_handler(flood)) as address, gateway(address) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024)
        writer.write(f"GET /v1/queues/q:watch HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode())
        async with asyncio.timeout(20):
            while True:  # its own buffer is full at once, and so are those on the way
                async with web.session.get(f"{web.url}/metrics") as answer:
                    if b'gateway_streams{method="WatchQueue"} 0.0' in await answer.read():
                        break
                await asyncio.sleep(0.1)
            with suppress(ConnectionError):
                while await reader.read(2**20):
                    pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def watchers(server: ServerProcess) -> float:
    """How many watches are open at the server."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{server.metrics_address}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("queue_manager_watch_subscribers ")))
