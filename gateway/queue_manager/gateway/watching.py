"""Watches of many: which hub serves whom, and how one who comes back after an older revision is brought up to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import Message

from queue_manager.gateway import status as statuses
from queue_manager.gateway.contract import Method
from queue_manager.gateway.conventions import AFTER, END, REVISION
from queue_manager.gateway.frames import Text, Writer
from queue_manager.gateway.hub import TRANSIENT, Hub, Observer
from queue_manager.gateway.status import Failed
from queue_manager.gateway.upstream import SHUTTING_DOWN, Metadata, Upstream, told_of_closing

log = structlog.get_logger(__name__)

PERSONAL: Final = frozenset({"x-requested-by", "x-request-id", "traceparent", "tracestate", "baggage"})
"""Metadata that says who watches, and nothing of what they may see. Those with other metadata do not share a stream."""

Note = str
"""Something that is said to whoever watches beside the frames; empty: the watch has been accepted."""
ACCEPTED: Final[Note] = ""
AWAY: Final[Note] = "the server is away, and is being tried again"
SILENCE: Final = 15.0
"""Seconds without anything to say, after which that is said: proxies end connections that are silent."""

Key = tuple[str, bytes, Metadata]


class Watches:
    """The hubs of a gateway."""

    def __init__(self, upstream: Upstream, observer: Observer, random: Random) -> None:
        """None is open yet."""
        self._upstream = upstream
        self._observer = observer
        self._random = random
        self._hubs: dict[Key, Hub] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(
        self, method: Method, writer: Writer, request: Message, metadata: Metadata
    ) -> AsyncGenerator[Text | Note, None]:
        """The frames of a watch, after `ACCEPTED`. Raises `Failed`."""
        position = getattr(request, AFTER) if request.HasField(AFTER) else None
        shared = type(request)()
        shared.CopyFrom(request)
        shared.ClearField(AFTER)
        async with self._hub(method, writer, shared, metadata) as hub:
            await hub.ready.wait()
            if hub.failed is not None:
                raise hub.failed
            if position is None:
                yield ACCEPTED
                position = hub.revision
                yield hub.snapshot()
            elif hub.can_follow(position):
                yield ACCEPTED
            else:
                async with aclosing(self._lead_in(hub, method, writer, request, metadata)) as items:
                    async for item in items:
                        yield item
                        if isinstance(item, Text):
                            assert item.revision is not None
                            position = item.revision
                            if item.kind == END:
                                return
            async for each in self._frames(hub, position):
                yield each

    def end(self) -> None:
        """Tell all who watch to go on elsewhere."""
        for hub in self._hubs.values():
            hub.fail(SHUTTING_DOWN)

    async def close(self) -> None:
        """Cancel the server's streams."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _frames(hub: Hub, position: int) -> AsyncIterator[Text | Note]:
        """What comes after a revision that the hub has, or will have."""
        heard, away = hub.heartbeat, False
        now = asyncio.get_running_loop().time
        spoke = now()
        while True:
            changed = hub.changed
            if (text := hub.after(position)) is not None:
                assert text.revision is not None
                position = text.revision
                yield text
            elif hub.end is not None:
                yield hub.end
                return
            elif hub.failed is not None:
                raise hub.failed
            elif hub.heartbeat is not heard:
                assert hub.heartbeat is not None
                heard = hub.heartbeat
                yield heard
            elif hub.away != away:
                away = hub.away
                yield AWAY if away else "the server is back"
            else:
                try:
                    async with asyncio.timeout_at(spoke + SILENCE):
                        await changed.wait()
                except TimeoutError:
                    yield AWAY if away else "nothing new"
                    spoke = now()
                continue
            spoke = now()

    async def _lead_in(
        self, hub: Hub, method: Method, writer: Writer, request: Message, metadata: Metadata
    ) -> AsyncGenerator[Text | Note, None]:
        """A stream of one's own, from a revision that the hub does not have up to one that it has; after `ACCEPTED`.

        Where it is cut, the hub goes on: with one frame that stands for what was missed.
        """
        call = self._upstream.stream(method.path, request.SerializeToString(), metadata)
        messages: AsyncIterator[Any] = aiter(call)
        arrives = asyncio.ensure_future(hub.reaches(getattr(request, AFTER)))
        accepted = asyncio.ensure_future(call.initial_metadata())
        coming = asyncio.ensure_future(anext(messages, None))
        began = False
        try:
            with told_of_closing():
                await _first_of(arrives, accepted, coming)
                if call.done():  # then its metadata mean nothing: how it has ended comes with what is read
                    await _first_of(arrives, coming)
                if hub.failed is not None:
                    raise hub.failed
                if not arrives.done() and coming.done():
                    coming.result()
                began = True
                yield ACCEPTED
                while True:
                    await _first_of(arrives, coming)
                    if arrives.done() or (raw := coming.result()) is None:
                        return
                    message = method.response.FromString(raw)
                    yield writer.text(message)
                    if hub.has_passed(getattr(message, REVISION)):
                        return
                    coming = asyncio.ensure_future(anext(messages, None))
        except grpc.aio.AioRpcError as error:
            status = statuses.of_call(error, server=self._upstream.server)
            if not began or statuses.code_of(status) not in TRANSIENT:
                raise Failed(status) from error
        finally:
            call.cancel()
            for each in (arrives, accepted, coming):
                each.cancel()
            await asyncio.gather(arrives, accepted, coming, return_exceptions=True)

    @asynccontextmanager
    async def _hub(self, method: Method, writer: Writer, request: Message, metadata: Metadata) -> AsyncIterator[Hub]:
        """The hub for this request, opened with its first watcher and closed with its last."""
        allowed = tuple(sorted(pair for pair in metadata if pair[0] not in PERSONAL))
        key = (method.path, request.SerializeToString(deterministic=True), allowed)
        hub = self._hubs.get(key)
        if hub is None or hub.end is not None or hub.failed is not None:
            hub = self._hubs[key] = Hub(self._upstream, method.path, request, method.response, writer, metadata)
            hub.task = asyncio.create_task(self._run(hub), name=f"watch {method.name}")
            self._tasks.add(hub.task)
            hub.task.add_done_callback(self._tasks.discard)
        hub.watchers += 1
        try:
            yield hub
        finally:
            hub.watchers -= 1
            if hub.watchers == 0:
                if self._hubs.get(key) is hub:
                    del self._hubs[key]
                assert hub.task is not None
                hub.task.cancel()

    async def _run(self, hub: Hub) -> None:
        self._observer.hub_opened()
        try:
            with told_of_closing():
                await hub.run(self._observer, self._random)
        except Failed as failed:
            hub.fail(failed.status)
        except Exception:  # whoever watches must not wait for a hub that is dead
            log.exception("a watch has failed")
            hub.fail(statuses.made(grpc.StatusCode.INTERNAL, "INTERNAL", "the gateway failed; its log says why"))
        finally:
            self._observer.hub_closed()


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
