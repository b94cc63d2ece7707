"""A reader of server-sent events, by the HTML standard's rules, that checks the watch's promise on each frame."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One of them."""

    id: str
    event: str
    data: Any


@dataclass
class EventStream:
    """What has been read, over as many connections as it took."""

    last: int = 0
    """The revision that it is at."""
    events: list[ServerSentEvent] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    async def read(self, answer: aiohttp.ClientResponse) -> AsyncIterator[ServerSentEvent]:
        """The events of an answer, each checked."""
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        fields: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            elif line:
                name, _, value = line.partition(": ")
                assert name in {"id", "event", "data", "retry"}, line
                fields[name] = value
            elif "data" in fields:
                event = ServerSentEvent(fields.get("id", ""), fields.get("event", ""), json.loads(fields["data"]))
                self._check(event)
                yield event
                fields = {}

    def _check(self, event: ServerSentEvent) -> None:
        self.events.append(event)
        if event.event == "ERROR":
            return
        frame = event.data
        revision = int(frame["revision"])
        assert event.id == str(revision)
        assert frame["kind"] == f"FRAME_KIND_{event.event}"
        assert self.last + int(frame["revisions_merged"]) == revision, f"a gap before {revision}"
        self.last = revision
