"""The gateway in front of a real server: what it answers. What it refuses is in `test_gateway_bad_input`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from queue_manager.client import AsyncClient
from queue_manager.gateway.app import CannotListen, running
from queue_manager.gateway.options import Options
from queue_manager.v1.service_pb2 import StopMode
from tests.e2e.conftest import payload
from tests.e2e.server_process import ServerProcess, free_port
from tests.support.gateway_process import GatewayProcess
from tests.support.web import START, Web, gateway, reason


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
    async with web.session.get(url, headers={"Grpc-Timeout": "2S"}) as stream:
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
