"""What the gateway refuses: the right status, the same error model, the field; and nothing is started."""

from __future__ import annotations

import json
from io import BytesIO
from time import perf_counter
from typing import Any

from queue_manager.client import AsyncClient
from tests.e2e.server_process import ServerProcess
from tests.support.web import START, Web, fields, gateway, reason

MIB = 2**20
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
