"""The gateway in front of a real server: what it answers, what it refuses, and that what it refuses starts nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from queue_manager.client import AsyncClient
from queue_manager.gateway.app import CannotListen, running
from queue_manager.gateway.options import Options
from queue_manager.v1.service_pb2 import StopMode
from tests.e2e.conftest import payload
from tests.e2e.server_process import ServerProcess, free_port
from tests.support.gateway_process import GatewayProcess

MIB = 2**20


class Web:
    """A client of a gateway."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """`url`: of the gateway."""
        self.url = url
        self.session = session
        self.port = urlsplit(url).port

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of an answer. The path goes out as it is."""
        async with self.session.request(method, URL(self.url + path, encoded=True), **options) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers

    async def raw(self, data: bytes, *, more: bytes = b"", after: float = 0.0) -> bytes:
        """Bytes out, and all that comes back until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if more:
                await asyncio.sleep(after)
                writer.write(more)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def gateway(server: str, **options: Any) -> AsyncIterator[Web]:
    """A gateway in this process."""
    async with (
        running(Options(port=0, server=server, **options)) as url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield Web(url, session)
        await session.close()
        await asyncio.sleep(0)  # aiohttp closes its transports with the loop's next turn


@pytest.fixture
async def web(server: ServerProcess) -> AsyncIterator[Web]:
    """A gateway with its defaults, but in no mood to wait."""
    async with gateway(server.address, body_timeout=0.5) as found:
        yield found


def reason(told: Any) -> str:
    """The stable reason of an error; every error has the same form."""
    assert set(told) == {"code", "message", "details"}, told
    assert told["message"]
    info = next(each for each in told["details"] if each["@type"].endswith("/google.rpc.ErrorInfo"))
    assert info["domain"] == "queue-manager.streamforge"
    return str(info["reason"])


def fields(told: Any) -> list[str]:
    """The fields of its violations."""
    found = [each for each in told["details"] if each["@type"].endswith("/google.rpc.BadRequest")]
    return [violation.get("field", "") for each in found for violation in each["field_violations"]]


async def test_the_users_payload_and_the_paths_that_are_in_use(web: Web) -> None:
    """Byte for byte, by the old paths and the new."""
    for path, name in (("/queues/start", "historical"), ("/v1/queues", "realtime")):
        body = payload(name).read_bytes()
        status, told, _ = await web.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
        assert (status, told["created"]) == (200, True)
    queue_id = told["queue"]["queue_id"]
    _, one, _ = await web.ask("GET", f"/queues/{queue_id}")
    assert one["queue_id"] == queue_id
    assert isinstance(one["revision"], str)
    _, listed, _ = await web.ask("GET", "/queues/list")
    assert listed["queues"][0]["queue_id"] == queue_id
    assert len(listed["queues"]) == 2
    _, filtered, _ = await web.ask("GET", "/v1/queues?states=QUEUE_STATE_STOPPED&states=QUEUE_STATE_FAILED&page_size=1")
    assert filtered == {"queues": [], "next_page_token": ""}
    for queue in listed["queues"]:
        status, stopped, _ = await web.ask(
            "POST", "/queues/stop", json={"queue_id": queue["queue_id"], "mode": "STOP_MODE_FORCE", "wait": True}
        )
        assert (status, stopped["state"]) == (200, "QUEUE_STATE_STOPPED")
    _, targets, _ = await web.ask("GET", "/v1/targets")
    assert "loader-producer" in [target["name"] for target in targets["targets"]]


START = {
    "symbol": "BTCUSDT",
    "time_range": "2024-06-01:2024-06-30",
    "requests": [{"target": "loader-producer", "type": "api_trades"}],
}
JSON = {"Content-Type": "application/json"}

REFUSED: list[tuple[str, str, dict[str, Any], int, str, list[str] | None]] = [
    ("POST", "/v1/queues", {"data": b"{", "headers": JSON}, 400, "INVALID_REQUEST", [""]),
    ("POST", "/v1/queues", {"data": b'{"symbol": "\xff"}', "headers": JSON}, 400, "INVALID_REQUEST", [""]),
    ("POST", "/v1/queues", {"data": b"[" * 50_000, "headers": JSON}, 400, "INVALID_REQUEST", [""]),
    ("POST", "/v1/queues", {"json": {**START, "simbol": "x"}}, 400, "INVALID_REQUEST", ["simbol"]),
    ("POST", "/v1/queues", {"json": {**START, "requests": "x"}}, 400, "INVALID_REQUEST", ["requests"]),
    ("POST", "/v1/queues", {"json": {**START, "symbol": 5}}, 400, "INVALID_REQUEST", ["symbol"]),
    ("POST", "/v1/queues", {"json": {**START, "failure_policy": 2**40}}, 400, "INVALID_REQUEST", ["failure_policy"]),
    ("POST", "/v1/queues", {"json": {**START, "start_timeout": "1e9s"}}, 400, "INVALID_REQUEST", ["start_timeout"]),
    (
        "POST",
        "/v1/queues",
        {"data": json.dumps(START)[:-1] + ', "symbol": "X"}', "headers": JSON},
        400,
        "INVALID_REQUEST",
        ["symbol"],
    ),
    ("POST", "/v1/queues", {"json": {**START, "symbol": ""}}, 400, "INVALID_REQUEST", ["symbol"]),
    ("POST", "/v1/queues?validate_only=true", {"json": START}, 400, "INVALID_REQUEST", ["validate_only"]),
    ("POST", "/v1/queues", {"data": json.dumps(START)}, 415, "UNSUPPORTED_MEDIA_TYPE", []),
    ("POST", "/v1/queues", {"data": START | {"requests": "x"}}, 415, "UNSUPPORTED_MEDIA_TYPE", []),
    (
        "POST",
        "/v1/queues",
        {"data": json.dumps(START).encode("utf-16"), "headers": {"Content-Type": "application/json; charset=utf-16"}},
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        [],
    ),
    (
        "POST",
        "/v1/queues",
        {"json": START, "headers": {"Content-Encoding": "gzip"}, "skip_auto_headers": []},
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        [],
    ),
    ("PUT", "/v1/queues", {"json": START}, 405, "METHOD_NOT_ALLOWED", []),
    ("DELETE", "/v1/queues/q1", {}, 405, "METHOD_NOT_ALLOWED", []),
    ("POST", "/v1/queues/q1:launch", {"json": {}}, 405, "METHOD_NOT_ALLOWED", []),
    ("POST", "/docs", {}, 405, "METHOD_NOT_ALLOWED", []),
    ("GET", "/v2/queues", {}, 404, "NO_SUCH_PATH", []),
    ("GET", "/v1/queues/", {}, 404, "NO_SUCH_PATH", []),
    ("GET", "/v1/queues/nope", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/..", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/%00", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/%zz", {}, 400, "INVALID_REQUEST", ["path"]),
    ("GET", "/v1/queues/%ff", {}, 400, "INVALID_REQUEST", ["path"]),
    ("GET", "/v1/queues/%E2%80%AE", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/" + "a" * 4000, {}, 400, "INVALID_REQUEST", ["queue_id"]),
    ("GET", "/static/../gateway.py", {}, 404, "NO_SUCH_PATH", []),
    ("GET", "/static/%2e%2e/gateway.py", {}, 404, "NO_SUCH_PATH", []),
    ("GET", "/static//etc/passwd", {}, 404, "NO_SUCH_PATH", []),
    ("GET", "/v1/queues?page_size=x&page_sise=1", {}, 400, "INVALID_REQUEST", ["page_sise", "page_size"]),
    ("GET", "/v1/queues?page_size=501", {}, 400, "INVALID_REQUEST", ["page_size"]),
    ("GET", "/v1/queues?page_token=x", {}, 400, "PAGE_TOKEN_MISMATCH", ["page_token"]),
    ("GET", "/v1/queues?symbol=%zz", {}, 400, "INVALID_REQUEST", ["symbol"]),
    ("GET", "/v1/queues", {"json": {}}, 400, "INVALID_REQUEST", [""]),
    ("GET", "/v1/queues", {"headers": {"Grpc-Timeout": "soon"}}, 400, "INVALID_REQUEST", ["Grpc-Timeout"]),
    ("GET", "/v1/queues", {"headers": {"Host": "evil.example"}}, 421, "HOST_NOT_ALLOWED", []),
    ("GET", "/v1/queues/q1:watch", {"headers": {"Last-Event-ID": "x"}}, 400, "INVALID_REQUEST", ["Last-Event-ID"]),
    (
        "GET",
        "/v1/queues/q1:watch",
        {"headers": {"Last-Event-ID": str(2**63)}},
        400,
        "INVALID_REQUEST",
        ["Last-Event-ID"],
    ),
    ("GET", "/v1/queues/q1:watch", {"headers": {"Accept": "image/png"}}, 406, "NOT_ACCEPTABLE", []),
    ("GET", "/v1/queues/nope:watch", {}, 404, "QUEUE_NOT_FOUND", []),
    ("GET", "/v1/queues/nope:watch?heartbeat_interval=0.1s", {}, 400, "INVALID_REQUEST", ["heartbeat_interval"]),
    (
        "POST",
        "/v1/queues",
        {"json": START, "headers": {"Origin": "http://evil.example"}},
        403,
        "ORIGIN_NOT_ALLOWED",
        [],
    ),
    ("POST", "/v1/queues", {"json": START, "headers": {"Origin": "null"}}, 403, "ORIGIN_NOT_ALLOWED", []),
    ("POST", "/v1/queues", {"json": START, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403, "ORIGIN_NOT_ALLOWED", []),
    (
        "POST",
        "/queues/stop",
        {"json": {"queue_id": "nope", "mode": "STOP_MODE_FORCE", "grace_period": "1s"}},
        400,
        "INVALID_REQUEST",
        ["grace_period"],
    ),
    ("POST", "/v1/queues/a:stop", {"json": {"queue_id": "b"}}, 400, "INVALID_REQUEST", ["queue_id"]),
    ("POST", "/v1/queues", {"data": b'{"\\ud800": 1}', "headers": JSON}, 400, "INVALID_REQUEST", ["?"]),
    (
        "POST",
        "/v1/queues",
        {"data": b'{"failure_policy":"\\ud800"}', "headers": JSON},
        400,
        "INVALID_REQUEST",
        ["failure_policy"],
    ),
    ("POST", "/v1/queues", {"json": {"requests": [{"target": "x" * 9000}] * 65}}, 400, "INVALID_REQUEST", None),
    ("POST", "/v1/queues", {"json": START, "headers": {"Origin": "http://["}}, 403, "ORIGIN_NOT_ALLOWED", []),
    ("POST", "/v1/queues", {"json": START, "headers": {"Expect": "200-ok"}}, 417, "EXPECTATION_FAILED", []),
    ("GET", "/v1/queues", {"headers": {"Authorization": "Bearer \u00e4"}}, 400, "INVALID_REQUEST", ["Authorization"]),
    ("GET", "/v1/queues", {"headers": {"Authorization": "Bearer " + "a" * 7000}}, 431, "HEADERS_TOO_LARGE", []),
    ("GET", "/v1/queues/q1:watch?after_revision=", {}, 400, "INVALID_REQUEST", ["after_revision"]),
    ("CONNECT", "/v1/queues", {}, 400, "INVALID_REQUEST", ["path"]),
]


async def test_what_is_refused_is_refused_clearly_and_starts_nothing(web: Web, client: AsyncClient) -> None:
    """The right status, the same error model, the field; afterwards there is no queue."""
    for method, path, options, status, why, wrong in REFUSED:
        found, told, headers = await web.ask(method, path, **options)
        case = f"{method} {path[:60]} {str(options)[:80]}: {told}"
        assert (found, reason(told)) == (status, why), case
        assert wrong is None or fields(told) == wrong, case
        assert headers["Content-Type"] == "application/json", case
        assert headers["X-Content-Type-Options"] == "nosniff", case
        assert headers["Server"] == "queue-manager", case
        if status == 405:
            assert headers["Allow"], case
    assert [queue async for queue in client.list_queues()] == []


async def test_what_is_no_http_or_does_not_come(web: Web) -> None:
    """Answered in the same form where it can be, and the connection ends."""
    host = f"Host: 127.0.0.1:{web.port}\r\n".encode()
    head = b"POST /v1/queues HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"
    cases = [
        (b"hello\r\n\r\n", b"", b" 400 ", b"BAD_HTTP"),
        (b"GET /v1/queues HTTP/1.1\r\n" + host + b"X: " + b"x" * 9000 + b"\r\n\r\n", b"", b" 431 ", b"BAD_HTTP"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + host + b"\r\n", b"", b" 431 ", b"BAD_HTTP"),
        (head + b"Content-Length: 100\r\n\r\n{", b"", b" 408 ", b"BODY_TOO_SLOW"),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\n{       \r\n", b" 408 ", b"BODY_TOO_SLOW"),
        (head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"", b" 400 ", b'"code":3'),
        (head + b"Transfer-Encoding: chunked\r\n\r\n", b"300000\r\n" + b" " * MIB * 3, b" 413 ", b"BODY_TOO_LARGE"),
        (head + b"Content-Length: %d\r\n\r\n" % (10 * MIB), b" " * 10 * MIB, b" 413 ", b"BODY_TOO_LARGE"),
        (head + b"Content-Length: 99999999999\r\n\r\n", b"", b" 413 ", b"BODY_TOO_LARGE"),
        (head + b"Content-Length: -1\r\n\r\n", b"", b" 400 ", b"BAD_HTTP"),
    ]
    for sent, more, status, why in cases:
        got = await web.raw(sent, more=more, after=0.01)
        assert got.startswith(b"HTTP/1."), (sent[:60], got)
        assert status in got.partition(b"\r\n")[0], (sent[:60], got)
        assert why in got, (sent[:60], got)
    for line, status in ((b"OPTIONS *", b" 204 "), (b"CONNECT localhost:80", b" 400 "), (b"GET /v1/queues", b" 200 ")):
        got = await web.raw(line + b" HTTP/1.1\r\nOrigin: \xff\r\n" + host + b"Connection: close\r\n\r\n")
        assert status in got.partition(b"\r\n")[0], got
    assert await web.raw(b"GET /v1/que") == b""  # silence is ended without a word


async def test_a_body_that_is_all_wrong_is_told_in_short(web: Web) -> None:
    """Nobody reads a million violations, and they cost no more than the body did."""
    for body in (
        b'{"requests": [' + b",".join([b"0"] * 450_000) + b"]}",
        b'{"requests": [' + b",".join([b'{"typo": 0}'] * 80_000) + b"]}",
        b'{"labels": {' + b",".join(b'"%d": null' % number for number in range(60_000)) + b"}}",
        b'{"' + b"x" * 1_000_000 + b'": 0, "failure_policy": "' + b"y" * 10_000 + b'"}',
        b'{"requests": [' + b",".join([b"{}"] * 300_000) + b"]}",
    ):
        began = perf_counter()
        status, told, headers = await web.ask("POST", "/v1/queues", data=BytesIO(body), headers=JSON)
        assert status in {400, 429}, told
        assert int(headers.get("Content-Length", "0")) < 60_000
        assert perf_counter() - began < 5.0


async def test_a_client_that_waits_to_be_told_that_it_may_send(web: Web) -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = f"POST /v1/queues HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    await writer.wait_closed()


async def test_large_answers_are_compressed(web: Web) -> None:
    """Where the client takes it; it is the same document."""
    async with web.session.get(f"{web.url}/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        assert (answer.headers["Content-Encoding"], "Accept-Encoding" in answer.headers["Vary"]) == ("gzip", True)
        packed, document = int(answer.headers["Content-Length"]), await answer.read()
    async with web.session.get(f"{web.url}/openapi.json", headers={"Accept-Encoding": "identity"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.read() == document
    assert packed < len(document) / 4


async def test_head_and_options(web: Web, client: AsyncClient) -> None:
    """HEAD is a GET without its body; OPTIONS tells what there is; neither starts or opens anything."""
    _, queues, _ = await web.ask("GET", "/v1/queues")
    status, body, headers = await web.ask("HEAD", "/v1/queues")
    assert (status, body) == (200, None)
    assert headers["Content-Length"] == str(len(json.dumps(queues, separators=(",", ":"))))
    assert (await web.ask("HEAD", "/v1/queues/nope"))[:2] == (404, None)
    for path, allow in (
        ("/v1/queues", "GET, HEAD, OPTIONS, POST"),
        ("/v1/queues/q1", "GET, HEAD, OPTIONS"),
        ("/v1/queues/q1:stop", "GET, HEAD, OPTIONS, POST"),
        ("/queues/stop", "GET, HEAD, OPTIONS, POST"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/health/ready", "GET, HEAD, OPTIONS"),
    ):
        status, body, headers = await web.ask("OPTIONS", path)
        assert (status, body, headers["Allow"]) == (204, None, allow), path
    assert (await web.ask("OPTIONS", "/nothing"))[0] == 404
    assert (await web.ask("HEAD", "/v1/queues", data=b"x"))[0] in {400, 415}
    assert [queue async for queue in client.list_queues()] == []


async def test_an_answer_that_is_known_is_not_sent_again(web: Web, client: AsyncClient) -> None:
    """ETags are revisions, compared weakly."""
    queue = (await client.start_queue(START)).queue
    await client.stop_queue(queue.queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)
    path = f"/v1/queues/{queue.queue_id}"
    _, told, headers = await web.ask("GET", path)
    assert headers["ETag"] == f'W/"{told["revision"]}"'
    for known in (headers["ETag"], f'"{told["revision"]}"', f'"0", {headers["ETag"]}', "*"):
        status, body, again = await web.ask("GET", path, headers={"If-None-Match": known})
        assert (status, body, again["ETag"]) == (304, None, headers["ETag"])
    assert (await web.ask("GET", path, headers={"If-None-Match": 'W/"1"'}))[0] == 200


async def test_who_called_is_passed_on(web: Web) -> None:
    """By name where one is given, else by address; ids come back."""
    start = {**START, "validate_only": False}
    _, told, headers = await web.ask(
        "POST", "/v1/queues", json=start, headers={"X-Requested-By": "Zoë", "X-Request-Id": "r-1"}
    )
    assert told["queue"]["requested_by"] == "Zo?"
    assert headers["X-Request-Id"] == "r-1"
    _, stopped, _ = await web.ask(
        "POST", f"/v1/queues/{told['queue']['queue_id']}:stop", json={"mode": "STOP_MODE_FORCE"}
    )
    assert stopped["stopped_by"] == "127.0.0.1"


async def test_a_stream_ends_with_its_deadline(web: Web, client: AsyncClient) -> None:
    """By an event that says so."""
    queue = (await client.start_queue(payload_of("realtime"))).queue
    url = f"{web.url}/v1/queues/{queue.queue_id}:watch"
    async with web.session.get(url, headers={"Grpc-Timeout": "300m"}) as stream:
        *_, last = (await stream.text()).strip().split("\n\n")
    assert last.startswith('event: ERROR\ndata: {"code":4,')
    await client.stop_queue(queue.queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)


async def test_a_server_that_does_not_answer() -> None:
    """The request's deadline, or the gateway's own, ends the wait."""
    connected: set[asyncio.Task[Any]] = set()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connected.add(task)
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hear, "127.0.0.1", 0)
    address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, gateway(address, timeout=0.3) as hasty, gateway(address) as patient:
        for web, path, headers in (
            (hasty, "/v1/queues", {}),
            (patient, "/v1/queues", {"Grpc-Timeout": "200m"}),
            (patient, "/v1/queues/q:watch", {"Grpc-Timeout": "200m"}),
        ):
            status, told, _ = await web.ask("GET", path, headers=headers)
            assert (status, reason(told)) == (504, "DEADLINE_EXCEEDED")
    await asyncio.gather(*connected)


def payload_of(name: str) -> dict[str, Any]:
    """One of the user's payloads as a call of the client."""
    found: dict[str, Any] = json.loads(payload(name).read_text())
    return found


async def test_pages_of_other_sites(server: ServerProcess) -> None:
    """Nothing by default; what is allowed is allowed to all calls and to nobody else."""
    origin = {"Origin": "https://board.example"}
    asks = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with gateway(server.address) as closed:
        for method in ("GET", "OPTIONS"):
            _, _, headers = await closed.ask(method, "/v1/queues", headers=asks)
            assert not [name for name in headers if name.startswith("Access-Control")]
    async with gateway(server.address, origins=("https://board.example",)) as opened:
        status, _, headers = await opened.ask("OPTIONS", "/v1/queues", headers=asks)
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, origin["Origin"])
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert headers["Access-Control-Allow-Headers"] == "content-type"
        status, _, headers = await opened.ask(
            "POST", "/v1/queues", json={**START, "validate_only": True}, headers=origin
        )
        assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (200, origin["Origin"], "Origin")
        assert "Access-Control-Allow-Credentials" not in headers
        other = {"Origin": "https://other.example"}
        assert (await opened.ask("POST", "/v1/queues", json=START, headers=other))[0] == 403
        assert "Access-Control-Allow-Origin" not in (await opened.ask("GET", "/v1/queues", headers=other))[2]
        same = {"Origin": opened.url}
        assert (await opened.ask("POST", "/v1/queues", json={**START, "validate_only": True}, headers=same))[0] == 200


async def test_health_names_the_parts(server: ServerProcess) -> None:
    """For probes by status, for people by name; the gateway lives without its server."""
    async with gateway(server.address) as web:
        for probe in ("live", "ready", "startup"):
            status, told, _ = await web.ask("GET", f"/health/{probe}")
            assert (status, told["status"]) == (200, "SERVING")
            parts = ["gateway"] if probe == "live" else ["gateway", "server", "records", "store", "runner", "bus"]
            assert told["parts"] == {key: {"status": "SERVING"} for key in parts}
        assert (await web.ask("GET", "/health/live", headers={"Host": "10.0.0.1:8080"}))[0] == 200
        await server.kill()
        status, told, _ = await web.ask("GET", "/health/ready")
        assert (status, told["status"], told["parts"]["gateway"]["status"]) == (503, "NOT_SERVING", "SERVING")
        assert server.address in told["parts"]["server"]["message"]
        assert (await web.ask("GET", "/health/startup"))[0] == 503
        assert (await web.ask("GET", "/health/live"))[0] == 200
        status, told, headers = await web.ask("GET", "/v1/queues")
        assert (status, reason(told), headers["Retry-After"]) == (503, "SERVER_UNREACHABLE", "1")
        await server.start()
        async with asyncio.timeout(20):
            while (await web.ask("GET", "/health/ready"))[0] != 200:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)


async def test_metrics_and_documents(web: Web) -> None:
    """Bounded labels; the document names the targets that there are."""
    await web.ask("GET", "/v1/queues/nope")
    await web.ask("GET", "/a/path/that/nobody/has")
    async with web.session.get(f"{web.url}/metrics") as answer:
        text = await answer.text()
    assert 'queue_manager_gateway_requests_total{method="GetQueue",status="404"} 1.0' in text
    assert 'queue_manager_gateway_requests_total{method="none",status="404"} 1.0' in text
    assert "nobody" not in text
    _, document, headers = await web.ask("GET", "/openapi.json")
    choices = document["components"]["schemas"]["JobRequest"]["properties"]["target"]["enum"]
    assert "gnn-trainer" in choices
    examples = document["paths"]["/v1/queues"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert list(examples)[:2] == ["historical", "realtime"]
    assert {name.partition(".")[0] for name in examples if "." in name} == set(choices)
    for name, example in examples.items():
        status, told, _ = await web.ask("POST", "/v1/queues", json={**example["value"], "validate_only": True})
        assert (status, len(told["plan"])) == (200, len(example["value"]["requests"])), (name, told)
    for known in (headers["ETag"], f'"x", W/{headers["ETag"]}', "*"):
        async with web.session.get(f"{web.url}/openapi.json", headers={"If-None-Match": known}) as answer:
            assert answer.status == 304
    async with web.session.get(f"{web.url}/openapi.yaml") as answer:
        assert (await answer.text()).startswith("openapi: 3.1.0\n")


async def test_more_streams_than_are_kept(server: ServerProcess, client: AsyncClient) -> None:
    """One more is refused, until one has gone."""
    queue_id = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    path = f"/v1/queues/{queue_id}:watch"
    async with gateway(server.address, max_streams=1) as web:
        async with web.session.get(web.url + path) as stream:
            assert b"retry" in await stream.content.readline()
            status, told, headers = await web.ask("GET", path)
            assert (status, reason(told), headers["Retry-After"]) == (429, "TOO_MANY_STREAMS", "1")
        async with asyncio.timeout(10):
            while (await web.ask("HEAD", path))[0] != 200:  # noqa: ASYNC110 - the gateway has to notice
                await asyncio.sleep(0.05)
    await client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True)


async def test_an_address_that_is_taken(web: Web) -> None:
    """Said, with the address."""
    with pytest.raises(CannotListen, match=f"127.0.0.1:{web.port} cannot be listened on: address"):
        async with running(Options(port=web.port or 0, server="127.0.0.1:1")):
            pass


async def test_the_command_says_what_to_do_about_an_address_that_is_taken(web: Web, tmp_path: Path) -> None:
    """As the server does: variable, the system's plain reason, remedy; exit code 2."""
    process = await asyncio.create_subprocess_exec(
        *GatewayProcess.command,
        env=GatewayProcess("127.0.0.1:1", tmp_path, QM_HTTP_LISTEN=f"localhost:{web.port}").environment,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, told = await process.communicate()
    assert (process.returncode, out.decode(), told.decode()) == (
        2,
        "",
        f"queue-manager cannot start: QM_HTTP_LISTEN: cannot listen on localhost:{web.port} (address already in use); "
        "set it to a free port of this machine, or to port 0 to pick one\n",
    )


async def test_a_gateway_without_a_server(tmp_path: Path) -> None:
    """Begins to serve, and says what is missing."""
    async with gateway(f"127.0.0.1:{free_port()}") as web:
        assert (await web.ask("GET", "/health/live"))[0] == 200
        assert (await web.ask("GET", "/v1/queues/q1:watch"))[0] == 503
        _, document, _ = await web.ask("GET", "/openapi.json")
        assert "enum" not in document["components"]["schemas"]["JobRequest"]["properties"]["target"]
