"""queuectl -o: the same result as JSON, as YAML, and as names; and of several queues one after the other."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
import yaml

from queue_manager.client.cli import documents, formats
from queue_manager.client.cli.exit_codes import ExitCode, worse
from queue_manager.v1.queue_pb2 import Queue, Reason
from queue_manager.v1.service_pb2 import Severity
from queue_manager.v1.target_pb2 import Target

from .fake_server import Failure, FakeServer, not_found, scripted_journal
from .samples import EXAMPLE, QUEUE_ID, failed_journal, running_journal
from .terminal import on_terminal, piped, typed, without_escapes

OTHER = "wf-ethusdt-api-trades-20240701-d4e5f6"


def plain(text: str) -> Any:
    """A YAML document by the book, so that a string that looks like a number or a date is found to be one."""
    return yaml.safe_load(text)


@pytest.fixture
def two(server: FakeServer) -> FakeServer:
    """A queue that has finished, and one that has failed."""
    server.add(scripted_journal())
    failed = failed_journal()
    failed.queue.queue_id = OTHER
    server.add(failed)
    server.targets.append(Target(name="graph-builder", description="Builds\ngraphs: all of them."))
    server.targets.append(Target(name="visualizer"))
    return server


class TestForms:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("get", QUEUE_ID),
            ("list",),
            ("list", "--limit", "1"),
            ("targets",),
            ("targets", "visualizer"),
            ("stop", OTHER),
            ("start", "-f", EXAMPLE, "--request-id", "one"),
            ("start", "-f", EXAMPLE, "--request-id", "two", "--validate-only"),
        ],
        ids=" ".join,
    )
    async def test_yaml_is_the_json_document(self, arguments: tuple[str, ...], two: FakeServer) -> None:
        as_json = await typed(two.address, *arguments, "-o", "json")
        as_yaml = await typed(two.address, *arguments, "-o", "YAML")
        assert as_json.code == as_yaml.code == 0
        answer = json.loads(as_json.out)
        if "created" in answer and not arguments[-1].startswith("--"):
            answer["created"] = False  # the request id was taken by then
        assert plain(as_yaml.out) == answer
        assert not as_yaml.out.startswith("---")

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (("list",), [OTHER, QUEUE_ID]),
            (("list", "--limit", "1"), [OTHER]),
            (("get", QUEUE_ID), [QUEUE_ID]),
            (("stop", QUEUE_ID, OTHER), [QUEUE_ID, OTHER]),
            (("stop", QUEUE_ID, "--wait"), [QUEUE_ID]),
            (("targets",), ["graph-builder", "visualizer"]),
            (("targets", "visualizer"), ["visualizer"]),
        ],
        ids=str,
    )
    async def test_names_are_ids_alone(self, arguments: tuple[str, ...], names: list[str], two: FakeServer) -> None:
        ended = await typed(two.address, *arguments, "-o", "name")
        assert (ended.code, ended.out.splitlines(), ended.err) == (0, names, "")

    async def test_a_start_has_a_name_on_a_terminal_too(self, server: FakeServer) -> None:
        ended = await on_terminal(server.address, "start", "-f", EXAMPLE, "-o", "name")
        assert without_escapes(ended.out).splitlines() == list(server.journals)

    async def test_no_names_are_no_line(self, server: FakeServer) -> None:
        """So that `xargs -r` runs nothing."""
        assert (await typed(server.address, "list", "-o", "name")).out == ""

    async def test_a_watch_is_a_stream_of_documents(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        as_json = await typed(server.address, "watch", QUEUE_ID, "-o", "json")
        as_yaml = await typed(server.address, "watch", QUEUE_ID, "-o", "yaml")
        frames = [json.loads(line) for line in as_json.out.splitlines()]
        assert len(frames) == 7
        assert list(yaml.safe_load_all(as_yaml.out)) == frames

    async def test_on_a_terminal_a_watch_is_the_same(self, server: FakeServer) -> None:
        """No table, no colours."""
        server.add(scripted_journal(revisions=6))
        ended = await on_terminal(server.address, "watch", QUEUE_ID, "-o", "json")
        assert [json.loads(line)["kind"] for line in ended.out.splitlines()][-1] == "FRAME_KIND_END"

    async def test_start_and_watch_in_one(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6)).request_id = "one"
        ended = await typed(server.address, "start", "-f", EXAMPLE, "--request-id", "one", "--watch", "-o", "yaml")
        assert [frame["revision"] for frame in yaml.safe_load_all(ended.out)][-1] == "6"


class TestText:
    """Workers' words, in documents that go to a terminal."""

    MESSAGE = "a: \x1b[31m\x9b2J\u2028 'quoted' \"too\" é €\n- 2024-06-01"

    @pytest.mark.parametrize("ascii_only", [False, True])
    def test_it_is_kept_and_drives_nothing(self, ascii_only: bool) -> None:
        queue = Queue(queue_id="1e3", message=self.MESSAGE, symbol="on", time_range="2024-06-01")
        for text, loads in (
            (documents.as_json(queue, ascii_only=ascii_only), json.loads),
            (documents.as_json(queue, ascii_only=ascii_only, one_line=True), json.loads),
            (documents.as_yaml(queue, ascii_only=ascii_only), plain),
        ):
            assert loads(text)["message"] == self.MESSAGE
            assert (loads(text)["queue_id"], loads(text)["symbol"]) == ("1e3", "on")
            assert loads(text)["time_range"] == "2024-06-01"
            assert not any(sign in text for sign in "\x1b\x9b\u2028")
            assert text.isascii() is ascii_only

    async def test_an_ascii_pipe_gets_ascii(self, server: FakeServer) -> None:
        journal = scripted_journal()
        journal.queue.message = self.MESSAGE
        server.add(journal)
        for form in ("json", "yaml"):
            ended = await piped(server.address, "get", QUEUE_ID, "-o", form, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
            assert ended.out.isascii()
            assert plain(ended.out)["message"] == self.MESSAGE


class TestSeveral:
    async def test_documents_stand_one_after_the_other(self, two: FakeServer) -> None:
        as_json = await typed(two.address, "get", OTHER, QUEUE_ID, "-o", "json")
        as_yaml = await typed(two.address, "get", OTHER, QUEUE_ID, "-o", "yaml")
        first, end = json.JSONDecoder().raw_decode(as_json.out)
        assert [first["queue_id"], json.loads(as_json.out[end:])["queue_id"]] == [OTHER, QUEUE_ID]
        assert [queue["queue_id"] for queue in yaml.safe_load_all(as_yaml.out)] == [OTHER, QUEUE_ID]

    async def test_tables_stand_apart(self, two: FakeServer) -> None:
        ended = await typed(two.address, "get", OTHER, QUEUE_ID)
        assert f"2024-06-05\n\n\n{QUEUE_ID}  FINISHED" in ended.out
        assert ended.out.startswith(OTHER)

    async def test_one_that_is_unknown_does_not_hide_the_others(self, two: FakeServer) -> None:
        ended = await typed(two.address, "get", "wf-a", QUEUE_ID, "wf-b", "-o", "name")
        assert (ended.code, ended.out) == (ExitCode.NOT_FOUND, f"{QUEUE_ID}\n")
        assert ended.err.splitlines() == [
            "error: there is no queue 'wf-a'; queuectl list shows which there are",
            "error: there is no queue 'wf-b'; queuectl list shows which there are",
        ]

    async def test_one_that_is_named_twice_is_dealt_with_once(self, two: FakeServer) -> None:
        await typed(two.address, "stop", QUEUE_ID, OTHER, QUEUE_ID)
        assert [request.queue_id for request in two.requests("StopQueue")] == [QUEUE_ID, OTHER]

    async def test_without_a_server_one_error_is_enough(self, two: FakeServer) -> None:
        two.failures["GetQueue"].extend([Failure(grpc.StatusCode.DEADLINE_EXCEEDED)] * 2)
        ended = await typed(two.address, "get", QUEUE_ID, OTHER)
        assert ended.code == ExitCode.UNREACHABLE
        assert len(ended.err.splitlines()) == 1
        assert len(two.requests("GetQueue")) == 1

    async def test_all_are_asked_before_the_first_is_waited_for(self, server: FakeServer) -> None:
        """They end side by side; and the code is that of the one that went worst."""
        running, failed = running_journal(), failed_journal()
        running.queue.queue_id = OTHER
        server.add(running)
        server.add(failed)
        ended = await typed(server.address, "stop", OTHER, "wf-none", QUEUE_ID, "--wait")
        assert [name for name, _, _ in server.calls] == ["StopQueue", "StopQueue", "StopQueue", "WatchQueue"]
        assert ended.code == ExitCode.NOT_FOUND
        assert f"{OTHER} STOPPED" in ended.out
        assert f"{QUEUE_ID} FAILED" in ended.out

    def test_the_worst_code_counts(self) -> None:
        assert worse(ExitCode.OK, ExitCode.OK) is ExitCode.OK
        assert worse(ExitCode.OK, ExitCode.QUEUE_STOPPED) is ExitCode.QUEUE_STOPPED
        assert worse(ExitCode.QUEUE_FAILED, ExitCode.OK) is ExitCode.QUEUE_FAILED
        assert worse(ExitCode.QUEUE_FAILED, ExitCode.NOT_FOUND) is ExitCode.NOT_FOUND
        assert worse(ExitCode.UNREACHABLE, ExitCode.UNEXPECTED) is ExitCode.UNEXPECTED


class TestServerOption:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("--server", "{here}", "get", QUEUE_ID),
            ("get", QUEUE_ID, "--server", "{here}"),
            ("--server", "127.0.0.1:1", "get", "--server", "{here}", QUEUE_ID),
        ],
    )
    async def test_it_stands_before_or_after_the_command(self, arguments: tuple[str, ...], two: FakeServer) -> None:
        """The later one counts, and any of them before QM_SERVER."""
        ended = await typed("127.0.0.1:2", *(word.format(here=two.address) for word in arguments), "-o", "name")
        assert (ended.code, ended.out) == (0, f"{QUEUE_ID}\n")

    @pytest.mark.parametrize(
        ("address", "said"),
        [
            ("http://127.0.0.1:50051", "the API is gRPC, without http://; write 127.0.0.1:50051"),
            ("https://qm.example.com/v1", "the API is gRPC, without https://; write qm.example.com:50051"),
            ("http://", "write HOST:50051"),
            ("localhost", "the port is missing; write it like localhost:50051"),
            ("127.0.0.1:", "the port is missing; write it like 127.0.0.1:50051"),
            ("[::1]", "the port is missing; write it like [::1]:50051"),
            (":50051", "the host is missing; write it like 127.0.0.1:50051"),
            ("qm:grpc", "a port is a number from 1 to 65535; write it like qm:50051"),
            ("qm:0", "a port is a number from 1 to 65535"),
            ("qm:65536", "a port is a number from 1 to 65535"),
            ("::1:50051", "an IPv6 address stands in brackets; write it like [::1]:50051"),
            ("a b:1", "that is no address; write it like 127.0.0.1:50051"),
            ("qm.example.com:50051/x", "that is no address"),
            ("\x1b[31m:1", "that is no address"),
        ],
    )
    async def test_what_can_be_no_address_is_said_at_once(self, address: str, said: str) -> None:
        by_option = await typed("127.0.0.1:1", "list", "--server", address)
        by_variable = await typed(address, "list")
        for ended, source in ((by_option, "--server"), (by_variable, "QM_SERVER")):
            assert (ended.code, ended.out) == (ExitCode.USAGE, "")
            assert ended.err.startswith(f"error: {source} is '")
            assert said in ended.err
            assert "\x1b" not in ended.err

    @pytest.mark.parametrize("address", ["unix:/nowhere.sock", "dns:///localhost:1", "ipv4:127.0.0.1:1", "[::1]:1"])
    async def test_grpcs_own_names_are_grpcs_to_judge(self, address: str) -> None:
        ended = await typed(address, "list")
        assert ended.code == ExitCode.UNREACHABLE
        assert f"cannot reach the server at {address}" in ended.err

    async def test_an_unknown_queue_is_said_in_the_commands_own_words(self, server: FakeServer) -> None:
        server.failures["GetQueue"].append(not_found("wf-\x1b[31mx"))
        ended = await typed(server.address, "get", "wf-x")
        assert ended.err == "error: there is no queue 'wf- [31mx'; queuectl list shows which there are\n"


def test_what_a_newer_server_names_is_written_as_its_number() -> None:
    """Instead of a traceback."""
    assert [
        formats.queue_state(99),  # type: ignore[arg-type]
        formats.severity(99),  # type: ignore[arg-type]
        formats.parameter_type(99),  # type: ignore[arg-type]
    ] == ["99"] * 3
    assert (formats.severity(Severity.SEVERITY_WARNING), formats.reason_code(Reason.REASON_EXIT_CODE)) == (
        "warning",
        "EXIT_CODE",
    )
