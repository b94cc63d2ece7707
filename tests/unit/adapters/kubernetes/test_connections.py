"""Calls over connections that are kept, to a server that is played: what is sent, what is made of the answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from yarl import URL

from queue_manager.server.adapters.kubernetes.connections import Answer, Connections, NotConnected, NotConnectedInTime
from tests.support.local_workers import until

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SILENCE, HANG_UP = b"", b"hang up"


class Server:
    """Answers requests with what stands in `answers`, in their order, then with `FINE`."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.ended = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        self.connections.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                for line in request.split(b"\r\n"):
                    if line.startswith(b"Content-Length: "):
                        request += await reader.readexactly(int(line.partition(b" ")[2]))
                self.requests.append(request)
                answer = self.answers.pop(0) if self.answers else FINE
                writer.write(answer.removesuffix(HANG_UP))
                if answer.endswith(HANG_UP):
                    break
        self.ended += 1
        writer.close()


@asynccontextmanager
async def playing(server: Server, *, kept: float = 60.0, limit: int = 100) -> AsyncIterator[Connections]:
    """Connections to it."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connections = to(f"http://127.0.0.1:{port}", kept=kept, limit=limit)
    try:
        yield connections
    finally:
        connections.close()
        listening.close()
        for writer in server.connections:
            writer.close()


def to(url: str, *, kept: float = 60.0, connect: float = 5.0, limit: int = 100) -> Connections:
    """Connections to this URL."""
    return Connections(
        URL(url), tls=ssl.create_default_context(), server_hostname=None, limit=limit, connect=connect, kept=kept
    )


async def get(connections: Connections, *, timeout: float = 5.0) -> Answer:
    """Ask for something."""
    return await connections.call("GET", "/", {}, None, timeout=timeout)


async def post(connections: Connections) -> Answer:
    """Have something made."""
    return await connections.call("POST", "/jobs?dryRun=All", {"Accept": "a/b"}, b"body", timeout=5.0)


async def test_a_connection_is_kept_for_the_next_call() -> None:
    """Each request is sent whole; what is asked side by side has connections of its own."""
    server = Server()
    async with playing(server) as connections:
        assert (await get(connections)).body == b"ok"
        assert (await post(connections)).status == 200
        assert len(server.connections) == 1
        host = b":".join(str(part).encode() for part in server.connections[0].get_extra_info("sockname"))
        assert server.requests == [
            b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
            b"POST /jobs?dryRun=All HTTP/1.1\r\nHost: " + host + b"\r\nAccept: a/b\r\nContent-Length: 4\r\n\r\nbody",
        ]
        await asyncio.gather(*(get(connections) for _ in range(5)))
        await asyncio.gather(*(get(connections) for _ in range(5)))
        assert len(server.connections) == 5


def test_it_works_with_uvloop() -> None:
    """Its transports are none of asyncio's classes."""

    async def twice() -> int:
        server = Server()
        async with playing(server) as connections:
            assert [(await get(connections)).body for _ in range(2)] == [b"ok", b"ok"]
            return len(server.connections)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(twice()) == 1


@pytest.mark.parametrize(
    ("raw", "status", "body", "kept"),
    [
        pytest.param(FINE, 200, b"ok", True, id="length"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, id="no body"),
        pytest.param(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\nTrail: er\r\n\r\n",
            *(201, b"ok!", True),
            id="chunks",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n" + FINE, 200, b"ok", True, id="a word in between"),
        pytest.param(
            b"HTTP/1.1 429 Slow\r\nConnection: close\r\nContent-Length: 1\r\n\r\n!", 429, b"!", False, id="last"
        ),
        pytest.param(
            b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\nall of it" + HANG_UP,
            503,
            b"all of it",
            False,
            id="to the end",
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nold" + HANG_UP, 200, b"old", False, id="1.0"),
    ],
)
async def test_an_answer_ends_where_it_says(raw: bytes, status: int, body: bytes, kept: bool) -> None:
    """And its connection is used again where it may be."""
    server = Server(raw)
    async with playing(server) as connections:
        answer = await get(connections)
        assert (answer.status, answer.body) == (status, body)
        await get(connections)
        assert len(server.connections) == (1 if kept else 2)


async def test_headers_are_found_however_they_are_written() -> None:
    """Of an answer of its own each."""
    server = Server(b"HTTP/1.1 429 Slow\r\nrETRY-aFTER: 7\r\nContent-Length: 0\r\n\r\n")
    async with playing(server) as connections:
        assert (await get(connections)).header("retry-after") == "7"
        assert (await get(connections)).header("retry-after") == ""


async def test_what_a_closed_connection_did_not_take_is_sent_again_if_that_does_no_harm() -> None:
    """A server ends connections that nobody uses, just when somebody does."""
    server = Server(FINE, HANG_UP, FINE, HANG_UP)
    async with playing(server) as connections:
        await get(connections)
        assert (await get(connections)).body == b"ok"
        assert len(server.requests) == 3
        with pytest.raises(ConnectionError, match="has closed the connection"):
            await post(connections)
        assert len(server.requests) == 4


async def test_a_first_request_is_not_sent_again() -> None:
    """Its connection was new: the server did not want it."""
    server = Server(HANG_UP)
    async with playing(server) as connections:
        with pytest.raises(ConnectionError, match="has closed the connection"):
            await get(connections)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok" + HANG_UP, "cut in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + HANG_UP, "cut in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Le" + HANG_UP, "cut in the middle"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HANG_UP, "cut in the middle"),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 Created\r\nContent-Le" + HANG_UP, "cut in the middle"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nblah", "another protocol"),
    ],
)
async def test_half_an_answer_is_none(raw: bytes, why: str) -> None:
    """Nor is what cannot be read. Its connection is not used again."""
    server = Server(FINE, raw)
    async with playing(server) as connections:
        await get(connections)
        with pytest.raises(ConnectionError, match=why):
            await get(connections)
        assert (await get(connections)).body == b"ok"
        assert len(server.connections) == 2


async def test_an_answer_that_comes_too_late_is_nobody_elses() -> None:
    """Nor is that to a call that was cancelled."""
    server = Server(SILENCE, SILENCE)
    async with playing(server) as connections:
        with pytest.raises(TimeoutError):
            await get(connections, timeout=0.05)
        calling = asyncio.create_task(get(connections))
        await until(lambda: len(server.requests) == 2)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: server.ended == 2)
        assert (await get(connections)).body == b"ok"


async def test_each_call_has_its_own_time_whichever_began_first() -> None:
    """There is one timer for all of them."""
    server = Server(*[SILENCE] * 4)
    times = (5.0, 0.3, 0.05, 0.15)
    over: list[float] = []

    async def ask(timeout: float) -> None:
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await get(connections, timeout=timeout)
        assert asyncio.get_running_loop().time() >= began + timeout - 0.01
        over.append(timeout)

    async with playing(server) as connections:
        calls = [asyncio.create_task(ask(timeout)) for timeout in times]
        await until(lambda: len(over) == 3)
        assert over == [0.05, 0.15, 0.3]
        assert (await get(connections)).body == b"ok"
        calls[0].cancel()


def test_a_call_whose_time_is_over_concerns_no_other() -> None:
    """uvloop makes no timer of what is to be done at once."""

    async def side_by_side() -> None:
        server = Server()
        async with playing(server, limit=4) as connections:
            await asyncio.gather(*(get(connections) for _ in range(4)))
            times = (0.0, 5.0, 5.0, 5.0)
            found = await asyncio.gather(*(get(connections, timeout=time) for time in times), return_exceptions=True)
            assert [type(each) for each in found] == [TimeoutError, Answer, Answer, Answer]
            assert len(connections._open) == len(connections._idle), "none is left lying about"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(side_by_side())


async def test_what_is_said_unasked_ends_a_connection() -> None:
    """Else it would be taken for the next answer."""
    server = Server()
    async with playing(server) as connections:
        await get(connections)
        server.connections[0].write(b"HTTP/1.1 408 Too slow\r\nContent-Length: 0\r\n\r\n")
        await until(lambda: server.ended == 1)
        assert (await get(connections)).status == 200


@pytest.mark.parametrize(
    "surplus", [b"HTTP/1.1 500 Evil\r\nContent-Length: 4\r\n\r\n", b"HTTP/1.1 500 Evil\r\nX: ", b"H"]
)
async def test_what_comes_with_an_answer_is_not_taken_for_the_next(surplus: bytes) -> None:
    """Its connection is given up, however much of it there is."""
    server = Server(FINE + surplus, b"evil" + FINE)
    async with playing(server) as connections:
        assert (await get(connections)).body == b"ok"
        server.answers = []
        assert (await get(connections)).body == b"ok"
        assert len(server.connections) == 2


async def test_no_more_connections_are_made_than_allowed() -> None:
    """Who comes late waits, as long as a call may take, and then has sent nothing."""
    server = Server()
    async with playing(server, limit=2) as connections:
        answers = await asyncio.gather(*(get(connections) for _ in range(9)))
        assert [answer.body for answer in answers] == [b"ok"] * 9
        assert len(server.connections) == 2
        server.answers = [SILENCE, SILENCE]
        waiting = [asyncio.create_task(get(connections)) for _ in range(2)]
        await until(lambda: len(server.requests) == 11)
        with pytest.raises(NotConnectedInTime, match="2 calls to"):
            await get(connections, timeout=0.05)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await get(connections)).body == b"ok"


async def test_another_address_of_the_server_is_tried_where_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """As behind a name of several API servers."""
    server = Server()
    async with playing(server) as connections:
        found = await asyncio.get_running_loop().getaddrinfo(*connections._address, type=socket.SOCK_STREAM)
        gone = [(*found[0][:4], ("127.0.0.1", unused_tcp_port)), *found]

        async def getaddrinfo(*address: object, **options: object) -> object:
            return gone

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        assert (await get(connections)).body == b"ok"


async def test_a_name_may_end_with_a_dot() -> None:
    """It has none in certificates."""
    assert (
        to("https://kubernetes.default.svc.cluster.local.")._server_hostname == "kubernetes.default.svc.cluster.local"
    )


async def test_what_was_sent_before_the_server_went_may_have_been_carried_out() -> None:
    """Also where there is no connection for the second time."""
    server = Server(FINE, HANG_UP)
    async with playing(server) as connections:
        await get(connections)
        connections._address = ("127.0.0.1", 1)
        with pytest.raises(ConnectionError, match="Cannot connect") as failed:
            await connections.call("DELETE", "/", {}, None, timeout=5.0)
    assert not isinstance(failed.value, NotConnected)
    assert len(server.requests) == 2


async def test_closing_ends_what_is_under_way_and_lets_nothing_begin() -> None:
    """A call that ended after that would leave its connection behind."""
    server = Server(SILENCE)
    async with playing(server) as connections:
        calling = asyncio.create_task(post(connections))
        await until(lambda: len(server.requests) == 1)
        connections.close()
        with pytest.raises(ConnectionError):
            await calling
        await until(lambda: server.ended == 1)
        with pytest.raises(NotConnected, match="are closed"):
            await get(connections)


@pytest.mark.parametrize("kept", [0.0, 0.05])
async def test_connections_are_not_kept_for_ever(kept: float) -> None:
    """Neither where there is a next call nor where there is none."""
    server = Server()
    async with playing(server, kept=kept) as connections:
        await get(connections)
        await until(lambda: server.ended == 1)
        await get(connections)
        assert len(server.connections) == 2


async def test_closing_ends_what_is_kept() -> None:
    """Without waiting for the time that it would be."""
    server = Server()
    async with playing(server) as connections:
        await asyncio.gather(get(connections), get(connections))
        connections.close()
        await until(lambda: server.ended == 2)


async def test_what_was_not_sent_is_told_from_what_has_no_answer(unused_tcp_port: int) -> None:
    """Only of the latter it has to be looked what has come of it."""
    with pytest.raises(NotConnected, match=f"Cannot connect to host 127.0.0.1:{unused_tcp_port}"):
        await get(to(f"http://127.0.0.1:{unused_tcp_port}"))
    server = Server()
    async with playing(server):
        listening = await asyncio.start_server(never, "127.0.0.1", 0)  # it does not greet as TLS has it
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(NotConnectedInTime):
            await get(to(f"https://127.0.0.1:{port}", connect=0.05))
        listening.close()


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes and say nothing."""
    while await reader.read(100):
        pass
    writer.close()


@pytest.mark.parametrize("value", ["a\r\nX: 1", "a\nX: 1", "a\0"])
async def test_a_header_cannot_be_made_two(value: str) -> None:
    """A token comes from outside."""
    with pytest.raises(ValueError, match="header Authorization has a character that none has"):
        await to("http://127.0.0.1:1").call("GET", "/", {"Authorization": value}, None, timeout=1.0)
