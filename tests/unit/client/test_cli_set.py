"""queuectl start --set: which values go where, and what is said of those that go nowhere."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.client.cli.field_values import Misfit, one, whole
from queue_manager.client.cli.overrides import WrongOverrides, overridden
from queue_manager.v1.queue_pb2 import DependencyCondition, FailurePolicy, Job
from queue_manager.v1.service_pb2 import ListQueuesRequest, StartQueueRequest

from .fake_server import FakeServer
from .samples import EXAMPLE, EXAMPLE_TEXT
from .terminal import on_terminal, typed, without_escapes

PAYLOAD: dict[str, Any] = json.loads(EXAMPLE_TEXT)
JOBS = "loader-producer, loader-producer-2, arango-connector, arango-connector-2, graph-builder, gnn-trainer"


def request(*overrides: str, payload: dict[str, Any] | None = None) -> StartQueueRequest:
    """What is sent for the example with these values over it."""
    return ParseDict(overridden(PAYLOAD if payload is None else payload, overrides), StartQueueRequest())


def faults(*overrides: str, payload: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """What is wrong with them: path and words."""
    with pytest.raises(WrongOverrides) as caught:
        overridden(PAYLOAD if payload is None else payload, overrides)
    return [(fault.field, fault.description) for fault in caught.value.faults]


class TestPaths:
    def test_a_field(self) -> None:
        assert request("symbol=ETHUSDT").symbol == "ETHUSDT"

    def test_an_entry_by_its_number(self) -> None:
        changed = request("requests[2].interval=1m", "requests[0].parameters.batch_size=500")
        assert changed.requests[2].interval == "1m"
        assert changed.requests[0].parameters == {"batch_size": "500"}
        assert changed.requests[1] == request().requests[1]

    def test_a_request_by_the_name_of_its_job(self) -> None:
        changed = request("requests[loader-producer-2].interval=1h", "requests[gnn-trainer].parameters.epochs=20")
        assert changed.requests[1].interval == "1h"
        assert changed.requests[5].parameters == {"epochs": "20"}

    def test_one_past_the_last_adds_an_entry(self) -> None:
        changed = request(
            "requests[6].target=visualizer",
            "requests[6].type=graph_metrics_stream",
            "requests[visualizer].source=graph",
            "requests[7]={'target': 'x'}".replace("'", '"'),
        )
        assert [entry.target for entry in changed.requests[6:]] == ["visualizer", "x"]
        assert changed.requests[6].source == "graph"

    def test_a_key_of_ones_own_is_all_that_follows(self) -> None:
        changed = request("labels.example.com/team=a=b", "labels.x[0]=y")
        assert changed.labels == {"example.com/team": "a=b", "x[0]": "y"}

    def test_gates(self) -> None:
        changed = request(
            "requests[4].depends_on[0].job=loader-producer", "requests[4].depends_on[0].condition=started"
        )
        (gate,) = changed.requests[4].depends_on
        assert gate.job == "loader-producer"
        assert gate.condition == DependencyCondition.DEPENDENCY_CONDITION_STARTED

    @pytest.mark.parametrize("spelling", ["time_range", "timeRange"])
    @pytest.mark.parametrize("path", ["time_range", "timeRange"])
    def test_both_spellings_of_a_name_are_one_field(self, path: str, spelling: str) -> None:
        """A file with one and an option with the other would be a field given twice."""
        changed = request(f"{path}=2024-01-01:2024-01-02", payload={"symbol": "A", spelling: "old"})
        assert changed.time_range == "2024-01-01:2024-01-02"

    def test_the_later_wins(self) -> None:
        assert request("symbol=A", "symbol=B").symbol == "B"

    def test_nothing_takes_a_field_away(self) -> None:
        changed = request("time_range=", "requests[4].collection_inputs=", "labels=", "requests[4].collection_output=")
        assert not changed.time_range
        assert not changed.requests[4].collection_inputs
        assert not changed.requests[4].collection_output

    def test_of_a_label_it_is_an_empty_value(self) -> None:
        assert request("labels.team=").labels == {"team": ""}

    def test_null_in_the_file_is_nothing(self) -> None:
        assert request("labels.a=b", "requests[0].target=x", payload={"labels": None, "requests": None}).labels == {
            "a": "b"
        }

    def test_the_file_stays_as_it_is(self) -> None:
        before = copy.deepcopy(PAYLOAD)
        request("requests[0].parameters.epochs=1", "requests[4].collection_inputs[0]=x", "symbol=")
        assert before == PAYLOAD


class TestValues:
    @pytest.mark.parametrize("text", ["1e3", "true", "null", "2024-06-01", "0x10", " spaced ", "[a]", "{", '"q"', "é"])
    def test_a_string_is_what_was_typed(self, text: str) -> None:
        assert request(f"symbol={text}").symbol == text
        assert request(f"labels.a={text}").labels["a"] == text

    @given(st.text())
    def test_every_string_is(self, text: str) -> None:
        assert overridden({}, [f"requests[0].parameters.x={text}"]) == {"requests": [{"parameters": {"x": text}}]}

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
    def test_a_boolean(self, text: str, value: bool) -> None:
        assert request(f"validate_only={text}").validate_only is value

    @pytest.mark.parametrize(
        ("text", "seconds"), [("90s", 90), ("1m30s", 90), ("2h", 7200), ("45", 45), ("1500ms", 1.5)]
    )
    def test_a_duration(self, text: str, seconds: float) -> None:
        assert request(f"start_timeout={text}").start_timeout.ToMilliseconds() == seconds * 1000

    @pytest.mark.parametrize("text", ["stop-all", "STOP_ALL", "FAILURE_POLICY_STOP_ALL"])
    def test_an_enum(self, text: str) -> None:
        assert request(f"failure_policy={text}").failure_policy == FailurePolicy.FAILURE_POLICY_STOP_ALL

    @pytest.mark.parametrize("text", ["one,two", "one, two", '["one", "two"]'])
    def test_a_list_of_strings(self, text: str) -> None:
        assert request(f"requests[4].collection_inputs={text}").requests[4].collection_inputs == ["one", "two"]

    def test_an_entry_of_a_list_of_strings(self) -> None:
        changed = request("requests[4].collection_inputs[1]=b", "requests[4].collection_inputs[2]=c,d")
        assert changed.requests[4].collection_inputs[1:] == ["b", "c,d"]

    def test_json_for_what_has_parts(self) -> None:
        changed = request('labels={"a": "b"}', 'requests=[{"target": "x", "type": "y"}]')
        assert changed.labels == {"a": "b"}
        assert [entry.type for entry in changed.requests] == ["y"]

    def test_numbers_where_the_contract_has_them(self) -> None:
        """No start request has any yet."""
        size, progress = ListQueuesRequest.DESCRIPTOR.fields_by_name["page_size"], Job.DESCRIPTOR.fields_by_name
        assert (whole(size, "500"), one(progress["progress"], "0.5"), one(progress["error_count"], "7")) == (
            500,
            0.5,
            7,
        )
        for field, said in ((size, "no whole number"), (progress["progress"], "no number")):
            with pytest.raises(Misfit, match=said):
                one(field, "many")

    def test_every_field_of_a_request_is_known_here(self) -> None:
        """A type that joins the contract needs a decision."""
        known = {FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_BOOL, FieldDescriptor.CPPTYPE_ENUM}
        messages = {"JobRequest", "LabelsEntry", "ParametersEntry", "Dependency", "Duration"}
        for message in (
            StartQueueRequest.DESCRIPTOR,
            StartQueueRequest.DESCRIPTOR.fields_by_name["requests"].message_type,
        ):
            assert message is not None
            for field in message.fields:
                assert field.cpp_type in known or (field.message_type and field.message_type.name in messages)


class TestFaults:
    @pytest.mark.parametrize(
        ("override", "said"),
        [
            (
                "simbol=X",
                "a start request has no field 'simbol'; did you mean symbol? There are symbol, time_range, requests, "
                "request_id, validate_only, labels, failure_policy, start_timeout",
            ),
            (
                "requests[0].intervall=1m",
                "requests[0] has no field 'intervall'; did you mean interval? There are target",
            ),
            ("requests[0].zzz=1m", "requests[0] has no field 'zzz'; there are target, type, interval"),
            ("requests[0].depends_on[0].jbo=x", "requests[0].depends_on[0] has no field 'jbo'; did you mean job?"),
            ("requests[9].interval=1m", "the last is [5]; [6] adds one"),
            ("requests[gnn-trianer].interval=1m", f"no job 'gnn-trianer'; did you mean gnn-trainer? There are {JOBS}"),
            ("requests[-1].interval=1m", "there is no job '-1'"),
            ("requests[0].depends_on[first].job=x", "'first' is no number; [0] is the first"),
            ("requests[4].collection_inputs[3]=x", "the last is [1]; [2] adds one"),
            ("requests[0].depends_on[1].job=x", "there are none yet; [0] adds one"),
            ("requests.interval=1m", "requests is a list; write requests[0].interval"),
            ("requests[0=1m", "requests is a list; write requests[0]"),
            ("requests[0]interval=1m", "write requests[0].FIELD"),
            ("requests[0]=x", "takes JSON, like {…}: Expecting value"),
            ("requests[0]=[]", "takes JSON, like {…}"),
            ('requests={"a": "b"}', "takes JSON, like [{…}, {…}]"),
            ("symbol.x=1", "symbol is a single value; .x leads nowhere"),
            ("symbol[0]=1", "symbol is a single value; [0] leads nowhere"),
            ("start_timeout.seconds=1", "start_timeout is a single value; .seconds leads nowhere"),
            ("requests[4].collection_inputs[0].x=1", "requests[4].collection_inputs[0] is a single value"),
            ("labels=team", 'takes JSON, like {"KEY": "VALUE"}'),
            ('labels={"a": "b", "a": "c"}', "the key 'a' stands twice"),
            ("labels.=x", "has keys of your own; write labels.KEY=VALUE"),
            ("labels[team]=x", "has keys of your own; write labels.KEY=VALUE"),
            ("start_timeout=soon", "'soon' is no duration; write it like 30s, 1m30s or 2h"),
            ("failure_policy=never", "'never' is not known; write keep-going or stop-all"),
            ("failure_policy=unspecified", "'unspecified' is not known"),
            ("validate_only=maybe", "'maybe' is neither true nor false"),
            ("symbol", "write PATH=VALUE, as in symbol=ETHUSDT"),
            ("=x", "write PATH=VALUE, as in symbol=ETHUSDT"),
            (".symbol=x", "a start request has no field ''"),
        ],
    )
    def test_each_says_what_would_be_right(self, override: str, said: str) -> None:
        ((path, words),) = faults(override)
        assert said in words
        assert path == (override.partition("=")[0] or override)

    def test_a_file_that_is_not_what_the_path_takes_it_for(self) -> None:
        payload = {"requests": {"target": "x"}, "labels": ["a"]}
        assert faults("requests[0].type=x", "labels.a=b", payload=payload) == [
            ("requests[0].type", "requests is no list in the file"),
            ("labels.a", "labels is no object in the file"),
        ]
        assert faults("requests[0].type=x", payload={"requests": ["x"]}) == [
            ("requests[0].type", "requests[0] is no object in the file")
        ]

    async def test_all_are_told_at_once_and_nothing_is_sent(self, server: FakeServer) -> None:
        wrong = ("--set", "requests[9].interval=1m", "--set", "symbol=ETHUSDT", "--set", "validate_only=maybe")
        ended = await typed(server.address, "start", "-f", EXAMPLE, *wrong)
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert ended.err.splitlines() == [
            "error: --set has 2 faults; nothing has been sent",
            "  requests[9].interval  the last is [5]; [6] adds one",
            "  validate_only         'maybe' is neither true nor false",
        ]
        assert not server.calls

    @pytest.mark.parametrize("columns", [24, 60, 80])
    async def test_what_is_wrong_is_legible_on_any_terminal(self, columns: int, server: FakeServer) -> None:
        """Beside its field, or below it where there is no room."""
        ended = await on_terminal(
            server.address, "start", "-f", EXAMPLE, "--set", "requests[0].depends_on[0].jbo=x", columns=columns
        )
        lines = without_escapes(ended.out).splitlines()
        assert max(len(line.rstrip()) for line in lines) <= columns
        assert "did you mean job?" in " ".join(" ".join(lines).split())


class TestStart:
    async def test_the_values_are_sent(self, server: FakeServer) -> None:
        overrides = ("--set", "symbol=ETHUSDT", "--set", "requests[gnn-trainer].parameters.epochs=20")
        ended = await typed(server.address, "start", "-f", "-", *overrides, stdin=EXAMPLE_TEXT)
        (sent,) = server.requests("StartQueue")
        assert ended.code == 0
        assert sent.symbol == "ETHUSDT"
        assert sent.requests[5].parameters == {"epochs": "20"}

    async def test_options_of_their_own_go_over_it(self, server: FakeServer) -> None:
        overrides = ("--set", "labels.team=a", "--set", "request_id=one", "--set", "failure_policy=keep-going")
        options = ("--label", "team=b", "--request-id", "two", "--failure-policy", "stop-all")
        await typed(server.address, "start", "-f", EXAMPLE, *overrides, *options)
        (sent,) = server.requests("StartQueue")
        assert (dict(sent.labels), sent.request_id) == ({"team": "b"}, "two")
        assert sent.failure_policy == FailurePolicy.FAILURE_POLICY_STOP_ALL

    async def test_validate_only_may_be_a_value_too(self, server: FakeServer) -> None:
        ended = await typed(server.address, "start", "-f", EXAMPLE, "--set", "validate_only=true")
        assert "nothing has been started" in ended.out
        assert not server.journals

    async def test_what_the_file_has_wrong_is_told_as_ever(self, server: FakeServer, tmp_path: Path) -> None:
        path = tmp_path / "queue.json"
        path.write_text('{"symbl": "A", "requests": []}')
        ended = await typed(server.address, "start", "-f", str(path), "--set", "symbol=B")
        assert ended.code == ExitCode.USAGE
        assert "symbl  is no field of a start request; did you mean 'symbol'?" in ended.err
