"""queuectl: what it writes, where, and what it exits with."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details
from typer.testing import CliRunner

from queue_manager.client import errors
from queue_manager.client.cli import exits
from queue_manager.client.cli.app import app
from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.v1.queue_pb2 import (
    FailurePolicy,
    JobState,
    Lifetime,
    Queue,
    QueueState,
)
from queue_manager.v1.service_pb2 import Severity, StartQueueRequest, StartQueueResponse, StopMode
from queue_manager.v1.target_pb2 import Parameter, ParameterType, Reads, Target, TargetType, TimeRangeEnd

from .fake_server import Failure, FakeServer, Journal, scripted_journal, simulate
from .samples import EXAMPLE, EXAMPLE_TEXT, NOBODY, QUEUE_ID, failed_journal, running_journal
from .terminal import Ended, on_terminal, piped, typed, without_escapes


def invoke(*arguments: str) -> tuple[int, str]:
    """In this process, for what needs no server: the code and all that is written."""
    result = CliRunner().invoke(app, list(arguments), prog_name="queuectl", env={"QM_SERVER": NOBODY})
    return result.exit_code, result.output


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["stop", "wf-x", "--force", "--grace", "5s"], "--force knows no grace"),
            (["stop", "wf-x", "--grace", "soon"], "write it like 30s"),
            (["start", "-f", "x", "--label", "team"], "write it like team=research"),
            (["start", "-f", "x", "--watch", "--validate-only"], "starts none"),
            (["start"], "--file"),
            (["list", "--state", "ended"], "'finished'"),
            (["list", "--limit", "0"], "--limit"),
            (["watch", "wf-x", "--after-revision", "-1"], "--after-revision"),
            (["watch", "wf-x", "-o", "name"], "use table, json or yaml"),
            (["start", "-f", "x", "--watch", "-o", "name"], "use table, json or yaml"),
            (["get"], "QUEUE_ID"),
            (["begin"], "No such command"),
        ],
    )
    def test_what_is_wrong_is_said(self, arguments: list[str], said: str) -> None:
        code, text = invoke(*arguments)
        assert code == ExitCode.USAGE
        assert said in text


class TestErrors:
    def test_nobody_there(self) -> None:
        """What to do: start one here, or name another."""
        code, text = invoke("list")
        assert code == ExitCode.UNREACHABLE
        assert text == (
            "cannot reach the server at 127.0.0.1:1; start one with: queue-manager serve\n"
            "or name another one with --server or QM_SERVER\n"
        )

    def test_nobody_there_far_away(self) -> None:
        """Starting a server here would not help."""
        code, text = invoke("list", "--server", "qm.invalid:50051")
        assert code == ExitCode.UNREACHABLE
        assert text == "cannot reach the server at qm.invalid:50051; check --server or QM_SERVER\n"

    async def test_each_violation_has_its_line(self, server: FakeServer) -> None:
        bad_request = details.BadRequest()
        bad_request.field_violations.add(field="requests[2].interval", description="7m is none; use 5m")
        bad_request.field_violations.add(field="time_range", description="ends before it starts; swap the days")
        info = details.ErrorInfo(reason="INVALID_REQUEST")
        server.failures["StartQueue"].append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "2", (info, bad_request)))
        ended = await typed(server.address, "start", "-f", EXAMPLE)
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert [line.rstrip() for line in ended.err.splitlines()] == [
            "error: the request breaks 2 rules",
            "  requests[2].interval  7m is none; use 5m",
            "  time_range            ends before it starts; swap the days",
        ]

    async def test_a_long_remedy_is_wrapped_beside_its_field(self, server: FakeServer) -> None:
        bad_request = details.BadRequest()
        bad_request.field_violations.add(field="requests[0].type", description="is unknown; use one of " + "abc, " * 30)
        server.failures["StartQueue"].append(Failure(grpc.StatusCode.INVALID_ARGUMENT, "1", (bad_request,)))
        shown = without_escapes((await on_terminal(server.address, "start", "-f", EXAMPLE)).out).splitlines()
        assert shown[0] == "error: the request breaks 1 rule"
        assert len(shown) > 3
        assert all(line.startswith(" " * 20) for line in shown[2:])
        assert max(len(line.rstrip()) for line in shown) <= 80

    async def test_a_payload_that_does_not_fit(self, server: FakeServer) -> None:
        ended = await typed(server.address, "start", "-f", "-", stdin='{"symbl": "BTCUSDT"}')
        assert ended.code == ExitCode.USAGE
        assert "symbl  is no field of a start request; did you mean 'symbol'?" in ended.err
        assert not server.calls

    @pytest.mark.parametrize(
        ("failure", "code", "said"),
        [
            (Failure(grpc.StatusCode.NOT_FOUND, "queue 'x' does not exist"), 3, "error: queue 'x' does not exist\n"),
            (Failure(grpc.StatusCode.ALREADY_EXISTS, "taken"), 4, "error: taken\n"),
            (Failure(grpc.StatusCode.FAILED_PRECONDITION, "still runs"), 4, "error: still runs\n"),
            (Failure(grpc.StatusCode.PERMISSION_DENIED, "not yours"), 1, "error: not yours\n"),
            (
                Failure(
                    grpc.StatusCode.INTERNAL, "a bug", (details.ErrorInfo(reason="X", metadata={"error_id": "e7"}),)
                ),
                1,
                "error: a bug; the server's log has it under e7\n",
            ),
        ],
    )
    async def test_each_kind_has_its_code(self, failure: Failure, code: int, said: str, server: FakeServer) -> None:
        server.failures["GetQueue"].append(failure)
        assert await typed(server.address, "get", "wf-x") == Ended(code, "", said)

    def test_every_exception_has_a_code(self) -> None:
        for exception in set(errors.EXCEPTIONS.values()):
            assert exits.for_error(exception("x")) in ExitCode


class DyingServer(FakeServer):
    """Records what it is to start, and dies before it can say so."""

    async def StartQueue(self, request: StartQueueRequest, context: Any) -> StartQueueResponse:  # noqa: N802
        answer = await super().StartQueue(request, context)
        assert self._server is not None
        self._lives.add(asyncio.ensure_future(self._server.stop(grace=None)))
        await asyncio.Event().wait()
        return answer


class TestStart:
    async def test_in_a_pipe_the_id_is_all(self, server: FakeServer) -> None:
        """So that `$(queuectl start …)` is it."""
        ended = await typed(server.address, "start", "-f", EXAMPLE)
        assert ended == Ended(0, f"{next(iter(server.journals))}\n", "")

    async def test_on_a_terminal_it_says_how_to_go_on(self, server: FakeServer) -> None:
        ended = await on_terminal(server.address, "start", "-f", EXAMPLE)
        queue_id = next(iter(server.journals))
        assert without_escapes(ended.out).splitlines() == [
            f"started {queue_id}",
            f"follow it with: queuectl watch {queue_id}",
        ]

    async def test_the_options_arrive(self, server: FakeServer) -> None:
        options = [
            "--request-id",
            "nightly",
            "--label",
            "team=research",
            "--label",
            "run=a=b",
            "--failure-policy",
            "stop-all",
        ]
        ended = await typed(server.address, "start", "-f", "-", *options, "-o", "json", stdin=EXAMPLE_TEXT)
        (request,) = server.requests("StartQueue")
        assert request.request_id == "nightly"
        assert request.labels == {"team": "research", "run": "a=b"}
        assert request.failure_policy == FailurePolicy.FAILURE_POLICY_STOP_ALL
        answer = json.loads(ended.out)
        assert answer["created"] is True
        assert answer["queue"]["request_id"] == "nightly"

    async def test_a_repeated_request_id_is_told(self, server: FakeServer) -> None:
        """In JSON `created` is there although it is false."""
        arguments = ("start", "-f", EXAMPLE, "--request-id", "nightly")
        first = await typed(server.address, *arguments)
        second = await typed(server.address, *arguments, "-o", "json")
        assert json.loads(second.out)["created"] is False
        assert json.loads(second.out)["queue"]["queue_id"] == first.out.strip()

    async def test_the_plan_is_shown_and_nothing_started(self, server: FakeServer) -> None:
        ended = await typed(server.address, "start", "-f", EXAMPLE, "--validate-only")
        assert ended.code == 0
        assert "nothing has been started" in ended.out
        assert "image        streamforge/gnn-trainer:latest" in ended.out
        assert "environment  SYMBOL=BTCUSDT" in ended.out
        assert "secrets      KAFKA_PASSWORD" in ended.out
        assert not server.journals

    async def test_watch_follows_it(self, server: FakeServer) -> None:
        server.on_start = lambda journal: simulate(journal, tick=0.01)
        ended = await piped(server.address, "start", "-f", EXAMPLE, "--watch")
        lines = ended.out.splitlines()
        assert ended.code == 0
        assert lines[0] in server.journals
        assert "queue ended FINISHED" in lines[-1]

    async def test_after_a_timeout_the_request_id_makes_it_safe(self, server: FakeServer) -> None:
        server.failures["StartQueue"].append(Failure(grpc.StatusCode.DEADLINE_EXCEEDED))
        ended = await typed(server.address, "start", "-f", EXAMPLE)
        assert ended.code == ExitCode.UNREACHABLE
        assert f"repeat with --request-id {server.requests('StartQueue')[0].request_id}" in ended.err

    async def test_after_a_lost_answer_the_request_id_makes_it_safe(self) -> None:
        """Also where the attempts after it find nobody: the server may have recorded it, and then died."""
        async with DyingServer() as server:
            ended = await typed(server.address, "start", "-f", EXAMPLE)
        assert ended.code == ExitCode.UNREACHABLE
        (journal,) = server.journals.values()
        assert ended.err.splitlines()[-1] == (
            f"it may have been started; to make sure, repeat with --request-id {journal.queue.request_id}"
        )

    async def test_what_cannot_have_been_started_needs_no_request_id(self, server: FakeServer) -> None:
        """Nobody was there, or the server itself said no, or it was only to look."""
        assert "--request-id" not in (await typed("127.0.0.1:1", "start", "-f", EXAMPLE)).err
        info = details.ErrorInfo(reason="STORE_UNAVAILABLE")
        server.failures["StartQueue"].extend([Failure(grpc.StatusCode.UNAVAILABLE, "no store", (info,))] * 9)
        assert "--request-id" not in (await typed(server.address, "start", "-f", EXAMPLE)).err
        server.failures["StartQueue"].clear()
        server.failures["StartQueue"].append(Failure(grpc.StatusCode.DEADLINE_EXCEEDED))
        assert "--request-id" not in (await typed(server.address, "start", "-f", EXAMPLE, "--validate-only")).err


class TestStop:
    async def test_it_answers_at_once(self, server: FakeServer) -> None:
        server.add(running_journal())
        ended = await typed(server.address, "stop", QUEUE_ID, "--grace", "1m30s", "--reason", "wrong month")
        (request,) = server.requests("StopQueue")
        assert (ended.code, ended.out) == (0, f"{QUEUE_ID} is STOPPING\n")
        assert (request.grace_period.seconds, request.reason, request.mode) == (90, "wrong month", 1)

    async def test_force(self, server: FakeServer) -> None:
        server.add(running_journal())
        await typed(server.address, "stop", QUEUE_ID, "--force")
        (request,) = server.requests("StopQueue")
        assert request.mode == StopMode.STOP_MODE_FORCE
        assert not request.HasField("grace_period")

    async def test_wait_comes_back_with_the_verdict(self, server: FakeServer) -> None:
        """Stopped as asked is a success."""
        server.add(running_journal())
        ended = await typed(server.address, "stop", QUEUE_ID, "--wait", "--reason", "wrong month")
        assert ended.code == 0
        assert f"{QUEUE_ID} STOPPED after" in ended.out
        assert "stopped by ada@lab: wrong month" in ended.out

    async def test_wait_tells_a_failed_queue(self, server: FakeServer) -> None:
        server.add(failed_journal())
        ended = await typed(server.address, "stop", QUEUE_ID, "--wait", "-o", "json")
        assert ended.code == ExitCode.QUEUE_FAILED
        assert json.loads(ended.out)["state"] == "QUEUE_STATE_FAILED"


class TestGetAndList:
    async def test_get_shows_jobs_and_why(self, server: FakeServer) -> None:
        server.add(failed_journal())
        ended = await typed(server.address, "get", QUEUE_ID)
        assert ended.code == 0
        assert re.search(r"^loader-producer +api_trades +FINISHED +100%", ended.out, re.MULTILINE)
        assert "graph-builder: exited with code 3: ValueError: cannot read candle 17" in ended.out
        assert "\x1b" not in ended.out
        assert [line for line in ended.out.splitlines() if line != line.rstrip()] == []

    async def test_text_of_workers_is_no_markup_and_drives_nothing(self, server: FakeServer) -> None:
        journal = failed_journal()
        journal.queue.jobs[0].state = JobState.JOB_STATE_RUNNING
        server.add(journal)
        ended = await on_terminal(server.address, "get", QUEUE_ID, columns=140, NO_COLOR="1")
        assert "[bold]no markup[/bold] [31m of ours" in without_escapes(ended.out)
        assert "\x1b[31m" not in ended.out
        assert "\x07" not in ended.out

    async def test_json_has_snake_case_and_every_field(self, server: FakeServer) -> None:
        server.add(running_journal())
        ended = await typed(server.address, "get", QUEUE_ID, "-o", "json")
        answer = json.loads(ended.out)
        assert answer["queue_id"] == QUEUE_ID
        assert answer["records_written"] == "0"
        assert answer["jobs"][0]["collection_name"] == ""

    async def test_a_list_in_a_pipe_has_whole_values(self, server: FakeServer) -> None:
        server.add(scripted_journal())
        ended = await typed(server.address, "list")
        header, row = ended.out.splitlines()
        assert header.split() == ["QUEUE", "ID", "STATE", "ENDED", "RECORDS", "CREATED", "SYMBOL", "STARTED", "BY"]
        assert row.split() == [QUEUE_ID, "FINISHED", "2/2", "800", "2026-11-24T07:00:00Z", "BTCUSDT", "ada@lab"]

    async def test_a_list_fits_80_columns(self, server: FakeServer) -> None:
        server.add(scripted_journal())
        ended = await on_terminal(server.address, "list", columns=80)
        lines = without_escapes(ended.out).splitlines()
        assert len(lines) == 2
        assert QUEUE_ID in lines[1]
        assert max(map(len, lines)) <= 80

    async def test_the_filters_arrive_and_pages_are_joined(self, server: FakeServer) -> None:
        for number in range(520):
            server.add(Journal(Queue(queue_id=f"wf-{number}")))
        options = [
            "--state",
            "running",
            "--state",
            "FAILED",
            "--symbol",
            "BTCUSDT",
            "--target",
            "visualizer",
            "-l",
            "team=a,b",
            "--limit",
            "510",
        ]
        ended = await typed(server.address, "list", *options, "-o", "json")
        answer = json.loads(ended.out)
        assert len(answer["queues"]) == 510
        assert answer["next_page_token"] == "510"
        first, second = server.requests("ListQueues")
        assert (first.page_size, second.page_size, second.page_token) == (500, 10, "500")
        assert list(first.states) == [QueueState.QUEUE_STATE_RUNNING, QueueState.QUEUE_STATE_FAILED]
        assert (first.symbol, first.target, first.label_selector) == ("BTCUSDT", "visualizer", "team=a,b")

    async def test_nothing_to_list(self, server: FakeServer) -> None:
        assert await typed(server.address, "list") == Ended(0, "no queues match\n", "")
        assert json.loads((await typed(server.address, "list", "-o", "json")).out)["queues"] == []
        assert server.requests("ListQueues")[0].page_size == 50


class TestTargets:
    @pytest.fixture
    def catalogue(self, server: FakeServer) -> FakeServer:
        server.targets.append(
            Target(
                name="graph-builder",
                description="Builds graphs.",
                types=[
                    TargetType(
                        name="gnn_graph",
                        description="From collections.",
                        lifetime=Lifetime.LIFETIME_DRAINS,
                        default_image="streamforge/graph-builder:1",
                        required_fields=["collection_inputs"],
                        needs_time_range=True,
                    )
                ],
                parameters=[
                    Parameter(
                        name="window",
                        description="Width.",
                        type=ParameterType.PARAMETER_TYPE_INTEGER,
                        minimum=1,
                        maximum=512,
                        default_value="64",
                        environment_variable="WINDOW",
                    )
                ],
            )
        )
        server.targets.append(Target(name="visualizer", description="Shows graphs."))
        return server

    async def test_all(self, catalogue: FakeServer) -> None:
        lines = (await typed(catalogue.address, "targets")).out.splitlines()
        assert [line.split()[0] for line in lines] == ["TARGET", "graph-builder", "visualizer"]

    async def test_one_with_its_rules(self, catalogue: FakeServer) -> None:
        ended = await typed(catalogue.address, "targets", "graph-builder")
        assert "gnn_graph  ends when all is read; needs time_range; needs collection_inputs" in ended.out
        assert "window  integer, default 64, at least 1, at most 512; WINDOW" in ended.out

    async def test_one_with_how_its_workers_are_run(self, catalogue: FakeServer) -> None:
        told = catalogue.targets[1]
        told.types.add(
            name="stream",
            feeds=True,
            reads=Reads.READS_ALL,
            consumer_group="shown-{queue_id}",
            time_range_end=TimeRangeEnd.TIME_RANGE_END_EXCLUSIVE,
        )
        told.command.extend(["python", "-m", "shown"])
        told.environment["LIMIT"] = "5"
        told.environment["ADDRESS"] = "http://a"
        told.secret_environment["API_KEY"] = "api-key"
        told.plaintext_kafka = True
        pods = told.kubernetes
        pods.limits.update({"memory": "1Gi", "cpu": "1"})
        pods.tolerations.add().update({"key": "gpu", "tolerationSeconds": 30})
        pods.image_pull_policy = "Always"
        pods.image_pull_secrets.append("registry")
        pods.run_as_user = 65532
        pods.grace.FromSeconds(30)
        pods.patch.update({"spec": {"ratio": 0.5, "list": [None]}})
        lines = [line.strip() for line in (await typed(catalogue.address, "targets", "visualizer")).out.splitlines()]
        wanted = [
            *("writes its topic; reads all topics as shown-{queue_id}; leaves out the last day that it is told",),
            *("Workers", "command      python -m shown", "environment  ADDRESS=http://a", "LIMIT=5"),
            *("secrets      API_KEY from api-key", "Kafka        without TLS and credentials", "On Kubernetes"),
            *("limits       cpu=1, memory=1Gi", 'tolerations  {"key": "gpu", "tolerationSeconds": 30}'),
            *("pulls        Always, with registry", "runs as      65532:0, writable root, its own processes"),
            *("grace        30 s", 'patch        {"spec": {"list": [null], "ratio": 0.5}}'),
        ]
        found = [next((i for i, line in enumerate(lines) if want in line), -1) for want in wanted]
        assert -1 not in found, "\n".join(lines)
        assert found == sorted(found)

    async def test_json_has_one_too(self, catalogue: FakeServer) -> None:
        answer = json.loads((await typed(catalogue.address, "targets", "visualizer", "-o", "json")).out)
        assert [target["name"] for target in answer["targets"]] == ["visualizer"]

    async def test_a_slip_is_corrected(self, catalogue: FakeServer) -> None:
        ended = await typed(catalogue.address, "targets", "graph-bilder")
        assert ended.code == ExitCode.NOT_FOUND
        assert ended.err == "error: there is no target 'graph-bilder'; did you mean graph-builder?\n"


class TestDoctor:
    async def test_nothing_is_wrong(self, server: FakeServer) -> None:
        ended = await typed(server.address, "doctor")
        assert ended.code == 0
        assert ended.out == "server 1.2.3: bus embedded, store sqlite\nnothing is wrong that it knows of\n"

    async def test_what_is_wrong_is_told_with_its_remedy(self, server: FakeServer) -> None:
        server.diagnosis.findings.add(severity=Severity.SEVERITY_ERROR, part="store", message="the disk is full")
        server.diagnosis.findings.add(
            severity=Severity.SEVERITY_WARNING,
            part="runner",
            message="2 strays",
            remedy="end them",
            subjects=["a", "b"],
        )
        ended = await typed(server.address, "doctor")
        assert ended.code == ExitCode.UNHEALTHY
        assert ended.out.splitlines()[1:] == [
            "error: store: the disk is full",
            "warning: runner: 2 strays",
            "  a",
            "  b",
            "  what to do: end them",
        ]
        assert (await typed(server.address, "doctor", "-o", "name")).out == "store\nrunner\n"
