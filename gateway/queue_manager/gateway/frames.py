"""Frames of a stream as text: server-sent events or a line of JSON each.

Server-sent events (HTML standard, section 9.2): `id:` is the message's `revision`, `event:` its `kind` without the prefix
that the enum's values share, `data:` the message. HEARTBEATs are comments. In newline-delimited JSON every message is a
line, heartbeats included.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from queue_manager.gateway.conventions import HEARTBEAT, KIND, REVISION, has_revision, kinds_of
from queue_manager.gateway.encode import Encoder

RETRY: Final = b"retry: 1000\n\n"
"""Tells a browser to come back after a second; its own default is a few."""


class Form(Enum):
    """How a stream is written."""

    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Text:
    """A frame, written down in both forms; each is made once, for however many read it."""

    json: bytes
    kind: str
    """Without its prefix; empty where messages of the stream have none."""
    revision: int | None

    @property
    def lines(self) -> bytes:
        """For `Form.LINES`."""
        return self.json + b"\n"

    @property
    def events(self) -> bytes:
        """For `Form.EVENTS`."""
        if self.kind == HEARTBEAT:
            return b": heartbeat, revision %d\n\n" % (self.revision or 0)
        head = b"" if self.revision is None else b"id: %d\n" % self.revision
        if self.kind:
            head += b"event: %s\n" % self.kind.encode()
        return b"%sdata: %s\n\n" % (head, self.json)

    def written(self, form: Form) -> bytes:
        """In this form."""
        return self.events if form is Form.EVENTS else self.lines


class Writer:
    """Writes down the messages of one type."""

    def __init__(self, message: Descriptor, encoder: Encoder) -> None:
        """What the type's fields are is looked up once."""
        self._encoder = encoder
        self._has_revision = has_revision(message)
        self.kinds = kinds_of(message)
        """By number."""

    def text(self, message: Message) -> Text:
        """A message, written down."""
        kind = self.kinds.get(getattr(message, KIND), str(getattr(message, KIND))) if self.kinds else ""
        revision = getattr(message, REVISION) if self._has_revision else None
        return Text(self._encoder.to_json(message), kind, revision)


def error_event(status: bytes) -> bytes:
    """The last event of a stream that has failed: the error model. It is not called `error`, which browsers use."""
    return b"event: ERROR\ndata: %s\n\n" % status


def error_line(status: bytes) -> bytes:
    """The same as the last line."""
    return b'{"error":%s}\n' % status
