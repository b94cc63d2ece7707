"""JSON and messages: there and back, held against the library that the mapping's authors maintain."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given, settings
from hypothesis import strategies as st

from queue_manager.gateway.contract import Contract
from queue_manager.gateway.decode import Reader
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.problems import Malformed
from queue_manager.gateway.strict_json import parse
from tests.unit.gateway.conftest import compiled_rules
from tests.unit.gateway.messages import filled, types

OWN = Contract.load()
RULES = compiled_rules()
EVERYTHING: type[Message] = GetMessageClass(RULES.pool.FindMessageTypeByName("rules.EverythingRequest"))
"""Has a field of each kind."""
KINDS = sorted(types(OWN, "queue_manager."), key=lambda kind: str(kind.DESCRIPTOR.name))


def by_library(message: Message, contract: Contract) -> Any:
    """As the library writes it, less the order of what is written."""
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=contract.pool,
    )


def read_back(kind: type[Message], text: bytes, contract: Contract) -> Message:
    """As the gateway reads it."""
    message, reader = kind(), Reader(contract.pool)
    reader.message(message, parse(text))
    reader.raise_if_wrong()
    return message


def same(one: Message, other: Message) -> bool:
    """Also where there are NaNs, which are equal to nothing."""
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


def test_every_message_of_the_contract_is_tried() -> None:
    """Requests, responses, and what is in them."""
    names = {kind.DESCRIPTOR.name for kind in KINDS}
    assert {"StartQueueRequest", "JobRequest", "Queue", "Job", "QueueEvent", "WatchQueueResponse", "Target"} <= names
    assert len(names) > 30


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.DESCRIPTOR.name))
@settings(max_examples=30)
@given(st.data())
def test_every_message_goes_there_and_back(kind: type[Message], data: st.DataObject) -> None:
    """Written as the library writes it, and read as what it was."""
    message = data.draw(filled(kind))
    text = Encoder(OWN.pool).to_json(message)
    assert json.loads(text) == by_library(message, OWN)
    assert same(read_back(kind, text, OWN), message)


@settings(max_examples=300)
@example(EVERYTHING(single=3.4028234663852886e38))
@example(EVERYTHING(single=-1.1754943508222875e-38, real=5e-324))
@given(filled(EVERYTHING))
def test_every_kind_of_field_goes_there_and_back(message: Message) -> None:
    """Maps, oneofs, well-known types, numbers of every width."""
    text = Encoder(RULES.pool).to_json(message)
    assert json.loads(text) == json.loads(json.dumps(by_library(message, RULES)))
    assert same(read_back(EVERYTHING, text, RULES), message)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
    st.sampled_from(["1", "-1", "1.0", "true", "COLOR_RED", "1s", "2024-01-01T00:00:00Z", "NaN", "AA==", "1e3", " 1"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "text", "1"]), inner, max_size=2),
)

LENIENT = {
    "number", "positive", "big", "biggest", "zigzag", "fixed", "single", "real", "reals", "data", "by_number", "wrapped",
    "maybe_big", "color", "colors", "nothing",
}  # fmt: skip
"""Of numbers the library takes texts that are none (`" 1"`, `"1_0"`), of bytes what is no base64, of enums `true`."""


@settings(max_examples=1500)
@given(st.sampled_from([field.name for field in EVERYTHING.DESCRIPTOR.fields]), VALUES)
def test_what_is_taken_and_what_is_refused(name: str, value: Any) -> None:
    """The same as the library takes, to the same end."""
    document = {name: value}
    theirs: Message | None
    try:
        theirs = json_format.ParseDict(copy.deepcopy(document), EVERYTHING(), descriptor_pool=RULES.pool)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError):
        theirs = None
    try:
        ours: Message | None = read_back(EVERYTHING, json.dumps(document).encode(), RULES)
    except Malformed:
        ours = None
    if ours is None and (
        name in LENIENT or re.search(r'\[\]|""', json.dumps(value))
    ):  # it takes [] and "" for any message
        return
    assert (ours is None) == (theirs is None), document
    if ours is not None and theirs is not None:
        assert same(ours, theirs), document
