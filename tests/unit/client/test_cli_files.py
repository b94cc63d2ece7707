"""The file of queuectl start: JSON as its standard has it, YAML without its surprises, and everything that is neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.client.cli.field_values import with_types
from queue_manager.client.cli.payload_file import LARGEST, UnreadablePayload, read_payload
from queue_manager.v1.queue_pb2 import FailurePolicy
from queue_manager.v1.service_pb2 import StartQueueRequest

from .fake_server import FakeServer
from .samples import EXAMPLE, EXAMPLE_TEXT
from .terminal import piped, typed

YAML = """\
# a comment
symbol: 1e3
time_range: 2024-06-01:2024-06-30
start_timeout: 1m30s
failure_policy: stop-all
labels: {night: 2024-06-01, on: off}
common: &common
  target: loader-producer
requests:
- <<: *common
  type: api_trades
  interval: ~
  parameters:
    batch_size: 500
    simulate_ignore_stop: true
    empty: ""
- target: graph-builder
  type: gnn_graph
  collection_inputs: [one, 0x10]
  timeout: 2h
"""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads a file of this name and content."""

    def read_it(name: str, content: str | bytes) -> dict[str, Any]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_payload(str(path))

    return read_it


class TestYaml:
    @pytest.mark.parametrize("name", ["queue.yaml", "queue.YML", "queue", "queue.txt"])
    async def test_every_word_is_what_was_typed(self, name: str, server: FakeServer, tmp_path: Path) -> None:
        """Dates, numbers and booleans of YAML's own would be none of the request's."""
        path = tmp_path / name
        path.write_text(
            YAML.replace("common: &common\n  target: loader-producer\n", "").replace("<<: *common", "target: x")
        )
        ended = await typed(server.address, "start", "-f", str(path))
        assert ended.code == 0, ended.err
        (sent,) = server.requests("StartQueue")
        assert (sent.symbol, sent.time_range) == ("1e3", "2024-06-01:2024-06-30")
        assert sent.labels == {"night": "2024-06-01", "on": "off"}
        assert sent.requests[0].interval == ""
        assert sent.requests[0].parameters == {"batch_size": "500", "simulate_ignore_stop": "true", "empty": ""}
        assert sent.requests[1].collection_inputs == ["one", "0x10"]
        assert sent.requests[1].timeout.seconds == 7200
        assert sent.start_timeout.seconds == 90
        assert sent.failure_policy == FailurePolicy.FAILURE_POLICY_STOP_ALL

    def test_both_spellings_of_a_name_have_its_type(self) -> None:
        value = {"validateOnly": "true", "requests": [{"dependsOn": [{"condition": "started"}]}], "other": "true"}
        assert with_types(value, StartQueueRequest.DESCRIPTOR) == {
            "validateOnly": True,
            "requests": [{"dependsOn": [{"condition": "DEPENDENCY_CONDITION_STARTED"}]}],
            "other": "true",
        }

    def test_anchors_and_merges(self, read: Any) -> None:
        first = read("queue.yaml", YAML)["requests"][0]
        assert (first["target"], first["type"], first["interval"]) == ("loader-producer", "api_trades", None)

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ('"true"', True), ("yes", "yes")])
    def test_a_boolean_where_the_contract_has_one(self, text: str, value: object, read: Any) -> None:
        """What is none is the client's to refuse."""
        assert read("queue.yaml", f"validate_only: {text}") == {"validate_only": value}

    async def test_the_example(self, server: FakeServer) -> None:
        """It shows what a request can have beside the fields of the pipelines."""
        ended = await typed(server.address, "start", "-f", str(Path(EXAMPLE).with_name("gated-pipeline.yaml")))
        assert ended.code == 0, ended.err
        (sent,) = server.requests("StartQueue")
        assert sent.time_range == "2024-06-01:2024-06-30"
        assert sent.start_timeout.seconds == 300
        assert sent.requests[3].parameters == {"epochs": "10"}
        assert [gate.job for entry in sent.requests for gate in entry.depends_on] == [
            "loader-producer",
            "graph-builder",
        ]
        shown = {field.name for message in (sent, *sent.requests) for field, _ in message.ListFields()}
        assert {"labels", "failure_policy", "timeout", "depends_on", "parameters"} <= shown

    async def test_standard_input_is_either(self, server: FakeServer) -> None:
        yaml = "symbol: BTCUSDT\nrequests: [{target: x, type: y}]\n"
        for text in (yaml, EXAMPLE_TEXT):
            assert (await typed(server.address, "start", "-f", "-", stdin=text)).code == 0
        assert [sent.requests[0].target for sent in server.requests("StartQueue")] == ["x", "loader-producer"]

    def test_json_is_yaml(self, read: Any) -> None:
        assert read("queue.yaml", EXAMPLE_TEXT) == read("queue.json", EXAMPLE_TEXT)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("symbol: A\nsymbol: B", "line 2, column 1: the key 'symbol' stands twice in one object"),
            ("requests:\n- {type: a, type: b}", "line 2, column 13: the key 'type' stands twice"),
            ("symbol: [A\nx: {", "line 2, column 2: while parsing a flow sequence, expected ',' or ']', but got ':'"),
            ("\tsymbol: A", "line 1, column 1: while scanning for the next token, found character '\\t'"),
            ("a: b\n---\nc: d", "line 2, column 1: expected a single document in the stream, but found another"),
            ("a: *b", "line 1, column 4: found undefined alias 'b'"),
            ("a: \x01", "character 4: special characters are not allowed"),
            ('!!python/object/apply:os.system ["true"]', "could not determine a constructor for the tag"),
            ("a: !!timestamp 2024-01-01", "a tag makes something of it that JSON does not have"),
            ("symbol: &a {x: *a}", "Circular reference detected"),
            ("? [a]\n: b", "found unhashable key"),
            (
                "a0: &a0 [xxxxxxxxx]\n" + "".join(f"a{n + 1}: &a{n + 1} [{f'*a{n}, ' * 20}]\n" for n in range(7)),
                "16 MiB",
            ),
            ("just words", "must hold one object, with symbol and requests"),
            ("- a list", "must hold one object, with symbol and requests"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_place(self, text: str, said: str, read: Any) -> None:
        with pytest.raises(UnreadablePayload, match=r"queue\.yaml") as caught:
            read("queue.yaml", text)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_keys_that_are_no_words_are_the_clients_to_refuse(self, read: Any) -> None:
        assert read("queue.yaml", "1: a\n~: b") == {"1": "a", None: "b"}


class TestJson:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"{'a': 1}", "line 1, column 2: no JSON"),
            (b'{"a": 1,\n "b"}', "line 2, column 5: no JSON: Expecting ':' delimiter"),
            (b"[1]", "must hold one object, with symbol and requests"),
            (b"symbol: BTCUSDT", "line 1, column 1: no JSON"),
            (b"\xff\xfe", "is not UTF-8 text (byte 1); it must be JSON or YAML"),
            (b"\x7fELF\x02\x01\x01\x00\xb8", "is not UTF-8 text (byte 9)"),
            (b'{"symbol": "A", "symbol": "B"}', "the key 'symbol' stands twice"),
            (b'{"symbol": NaN}', "NaN is no JSON"),
            (b'{"symbol": -Infinity}', "-Infinity is no JSON"),
            (b'{"symbol": %s}' % (b"9" * 5000), "a number of 5000 digits is none that a request has"),
            (b"[" * 200_000, "nested too deeply"),
            (b"", "is empty; it must hold one object"),
            (b" \n", "is empty"),
            (b" " * (LARGEST + 1), "is larger than 16 MiB"),
        ],
    )
    def test_what_is_wrong_is_said(self, content: bytes, said: str, read: Any) -> None:
        with pytest.raises(UnreadablePayload, match=r"queue\.json") as caught:
            read("queue.json", content)
        assert said in str(caught.value)

    def test_a_byte_order_mark_is_forgiven(self, read: Any) -> None:
        """Editors on Windows put one there."""
        assert read("queue.json", "\ufeff" + EXAMPLE_TEXT) == read("other.json", EXAMPLE_TEXT)

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("/nowhere.json", "cannot read /nowhere.json: No such file or directory"),
            ("/", "cannot read /: Is a directory"),
            ("", "cannot read '': No such file or directory"),
            ("/dev/zero", "/dev/zero is larger than 16 MiB; that is no request"),
            ("/dev/null", "/dev/null is empty; it must hold one object, with symbol and requests"),
        ],
    )
    async def test_no_file_at_all(self, path: str, said: str) -> None:
        ended = await typed("127.0.0.1:1", "start", "-f", path)
        assert (ended.code, ended.out, ended.err) == (ExitCode.USAGE, "", f"error: {said}\n")

    async def test_nothing_on_standard_input(self, server: FakeServer) -> None:
        ended = await piped(server.address, "start", "-f", "-")
        assert ended.code == ExitCode.USAGE
        assert ended.err == "error: standard input is empty; it must hold one object, with symbol and requests\n"
        assert not server.calls
