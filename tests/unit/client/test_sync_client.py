"""`Client`: the same as `AsyncClient`, in a program without an event loop. Over real gRPC to a real core."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from queue_manager.client import (
    AlreadyExists,
    AsyncClient,
    Backoff,
    Client,
    InvalidRequest,
    NotFound,
    QueueManagerError,
)
from queue_manager.client.testing import TestServer
from queue_manager.v1.queue_pb2 import QueueState
from queue_manager.v1.service_pb2 import FrameKind, StopMode, WatchQueueResponse

LOADER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "time_range": "2024-06-01:2024-06-02",
    "requests": [{"target": "loader-producer", "type": "api_trades"}],
}
END = FrameKind.FRAME_KIND_END
PATIENCE = 20.0


@pytest.fixture
def server() -> Iterator[TestServer]:
    with TestServer() as server:
        yield server


@pytest.fixture
def client(server: TestServer) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def other_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class TestParity:
    """What one client has the other has, in the same words."""

    def test_both_have_the_same_methods(self) -> None:
        def public(client: type) -> set[str]:
            return {name for name in dir(client) if not name.startswith("_")}

        assert public(Client) == public(AsyncClient)

    @pytest.mark.parametrize("name", ["__init__", *(name for name in dir(AsyncClient) if not name.startswith("_"))])
    def test_a_method_takes_and_gives_the_same(self, name: str) -> None:
        """With the same defaults; what is asynchronous there is its plain counterpart here."""
        theirs, ours = getattr(AsyncClient, name), getattr(Client, name)
        if isinstance(theirs, property):
            theirs, ours = theirs.fget, ours.fget
        their_signature, our_signature = inspect.signature(theirs), inspect.signature(ours)
        assert our_signature.parameters == their_signature.parameters
        assert our_signature.return_annotation == synchronous(their_signature.return_annotation)
        assert not inspect.iscoroutinefunction(ours)

    @pytest.mark.parametrize("name", ["__init__", *(name for name in dir(AsyncClient) if not name.startswith("_"))])
    def test_a_method_is_explained_by_the_same_words(self, name: str) -> None:
        """All of them, but for `watch`, which is left in another way and calls back from another thread."""
        theirs, ours = inspect.getdoc(getattr(AsyncClient, name)), inspect.getdoc(getattr(Client, name))
        assert theirs
        assert ours
        assert ours.splitlines()[0] == theirs.splitlines()[0]
        if name != "watch":
            assert ours == theirs


def synchronous(annotation: str) -> str:
    """An annotation less what is asynchronous in it."""
    prefix, rest = "AsyncGenerator[", annotation
    return rest.replace(prefix, "Generator[").replace(", None]", ", None, None]") if rest.startswith(prefix) else rest


class TestCalls:
    def test_a_queue_is_started_found_listed_and_stopped(self, client: Client) -> None:
        started = client.start_queue(LOADER, labels={"team": "research"})
        queue_id = started.queue.queue_id
        assert started.created
        assert client.get_queue(queue_id).labels == {"team": "research"}
        assert [queue.queue_id for queue in client.list_queues(label_selector="team=research")] == [queue_id]
        assert [queue.queue_id for queue in client.list_page(symbol="BTCUSDT").queues] == [queue_id]
        assert "loader-producer" in [target.name for target in client.list_targets()]
        stopped = client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True, reason="seen enough")
        assert (stopped.state, stopped.stop_reason) == (QueueState.QUEUE_STATE_STOPPED, "seen enough")

    def test_a_list_goes_over_all_pages(self, client: Client) -> None:
        ids = [client.start_queue(LOADER).queue.queue_id for _ in range(5)]
        assert sorted(queue.queue_id for queue in client.list_queues(page_size=2)) == sorted(ids)

    def test_its_errors_are_the_same(self, client: Client) -> None:
        """Raised in the thread that called, with all that they carry."""
        with pytest.raises(NotFound) as not_found:
            client.get_queue("wf-none")
        assert (not_found.value.reason, not_found.value.metadata["resource"]) == ("QUEUE_NOT_FOUND", "wf-none")
        with pytest.raises(InvalidRequest) as invalid:
            client.start_queue({"symbol": "BTCUSDT", "requests": [{"target": "loader-producr", "type": "api_trades"}]})
        assert [violation.field for violation in invalid.value.violations] == ["requests[0].target"]
        client.start_queue(LOADER, request_id="nightly")
        with pytest.raises(AlreadyExists):
            client.start_queue({**LOADER, "symbol": "ETHUSDT"}, request_id="nightly")

    def test_many_threads_may_use_one_client(self, client: Client) -> None:
        with ThreadPoolExecutor(8) as pool:
            started = list(pool.map(lambda number: client.start_queue(LOADER).queue.queue_id, range(24)))
        assert len(set(started)) == 24

    async def test_it_may_be_used_inside_a_running_loop(self, client: Client) -> None:
        """As in a notebook, whose cells run in one."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        assert client.get_queue(queue_id).queue_id == queue_id

    def test_it_finds_a_server_that_came_back(self, client: Client, server: TestServer) -> None:
        """Retries are the asynchronous client's."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.disconnect()
        assert client.get_queue(queue_id).queue_id == queue_id


class TestWatch:
    def test_every_revision_comes_once_and_then_the_end(self, client: Client, server: TestServer) -> None:
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.report(queue_id, "loader-producer", records_written=1)
        frames, seen = client.watch(queue_id, after_revision=0), 0
        for number, frame in enumerate(frames):
            assert frame.revision == seen + frame.revisions_merged
            seen = frame.revision
            if number == 0:
                assert frame.kind == FrameKind.FRAME_KIND_UPDATE
                server.finish(queue_id, "loader-producer")
        assert frame.kind == END
        assert frame.queue.state == QueueState.QUEUE_STATE_FINISHED

    def test_another_thread_may_stop_what_is_watched(
        self, client: Client, server: TestServer, other_thread: ThreadPoolExecutor
    ) -> None:
        """While this one waits for the next frame, through the same client."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.report(queue_id, "loader-producer", records_written=1)
        frames = client.watch(queue_id)
        next(frames)
        stopping = other_thread.submit(client.stop_queue, queue_id, wait=True)
        *_, last = frames
        assert last.queue.state == QueueState.QUEUE_STATE_STOPPED
        assert stopping.result(PATIENCE).state == QueueState.QUEUE_STATE_STOPPED

    def test_it_goes_on_across_cuts(self, client: Client, server: TestServer) -> None:
        """From the last revision that was seen, and says so from its own thread, where the client cannot be called."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.report(queue_id, "loader-producer", records_written=1)
        told: list[str] = []

        def on_reconnect(error: QueueManagerError, pause: float) -> None:
            try:
                client.get_queue(queue_id)
            except RuntimeError as own_thread:
                told.append(str(own_thread))

        frames = client.watch(queue_id, on_reconnect=on_reconnect)
        seen = next(frames).revision
        with server.outage():
            server.finish(queue_id, "loader-producer")
        for frame in frames:
            assert frame.revision == seen + frame.revisions_merged
            seen = frame.revision
        assert frame.kind == END
        assert told
        assert "own thread" in told[0]

    def test_it_may_be_left_early(self, client: Client) -> None:
        """By `closing`, and by a plain `break`; the client goes on."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        with closing(client.watch(queue_id)) as frames:
            for frame in frames:
                assert frame.queue.queue_id == queue_id
                break
        with pytest.raises(StopIteration):
            next(frames)
        for _ in client.watch(queue_id):
            break
        assert client.get_queue(queue_id).queue_id == queue_id


class TestLifecycle:
    def test_a_client_that_is_not_open_says_so(self) -> None:
        client = Client("127.0.0.1:1")
        for use in (client.list_targets, client.list_queues, lambda: client.watch("wf-x")):
            with pytest.raises(RuntimeError, match="`with Client"):
                use()
        client.close()

    def test_it_cannot_be_opened_twice_but_again(self, server: TestServer) -> None:
        client = server.client()
        for _ in range(2):
            with client:
                with pytest.raises(RuntimeError, match="open already"):
                    client.__enter__()
                client.list_targets()
        assert not [thread for thread in threading.enumerate() if thread.name == "queue-manager-client"]

    def test_closing_ends_a_call_under_way(self, other_thread: ThreadPoolExecutor) -> None:
        """In another thread, with the asynchronous client's error."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            client = Client(f"127.0.0.1:{silent.getsockname()[1]}")
            with client:
                call = other_thread.submit(client.get_queue, "wf-x")
                connection, _ = silent.accept()  # nobody answers
            with connection, pytest.raises(RuntimeError, match="closed during the call"):
                call.result(PATIENCE)

    def test_closing_ends_a_call_between_two_attempts(self, other_thread: ThreadPoolExecutor) -> None:
        pausing = threading.Event()

        async def sleep(_: float) -> None:
            pausing.set()
            await asyncio.get_running_loop().create_future()

        with Client("127.0.0.1:1", backoff=Backoff(sleep=sleep)) as client:
            call = other_thread.submit(client.get_queue, "wf-x")
            assert pausing.wait(PATIENCE)
        with pytest.raises(RuntimeError, match="closed during the call"):
            call.result(PATIENCE)

    def test_a_watch_that_is_back_says_so_by_a_heartbeat(self, server: TestServer, client: Client) -> None:
        """At once, though there is nothing new."""
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.report(queue_id, "loader-producer")
        newest = client.get_queue(queue_id).revision
        with closing(
            client.watch(queue_id, after_revision=newest - 1, heartbeat=3600, yield_heartbeats=True)
        ) as frames:
            assert next(frames).revision == newest
            server.disconnect()
            back = next(frames)
        assert (back.kind, back.revision) == (FrameKind.FRAME_KIND_HEARTBEAT, newest)

    def test_closing_ends_a_watch_under_way(
        self, server: TestServer, client: Client, other_thread: ThreadPoolExecutor
    ) -> None:
        queue_id = client.start_queue(LOADER).queue.queue_id
        server.report(queue_id, "loader-producer")
        first = threading.Event()

        def watch() -> list[WatchQueueResponse]:
            frames = []
            for frame in client.watch(queue_id):
                frames.append(frame)
                first.set()
            return frames

        watching = other_thread.submit(watch)
        assert first.wait(PATIENCE)
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            watching.result(PATIENCE)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program of its own; it is to end by itself, soon."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
class TestFork:
    def test_a_client_from_before_a_fork_is_refused_and_does_not_hang(self) -> None:
        """Its thread stayed behind, and so did gRPC's; the parent goes on."""
        done = run(
            """
            import os
            from queue_manager.client import Client

            with Client("127.0.0.1:1", timeout=0.1) as client:
                queues = client.list_queues()
                child = os.fork()
                for use in (lambda: client.list_targets(), lambda: next(queues), lambda: Client().__enter__()):
                    try:
                        use()
                    except Exception as error:
                        print(type(error).__name__, "fork" in str(error), flush=True)
                if child:
                    os.waitpid(child, 0)
            """
        )
        lines = done.stdout.split("\n")
        assert lines.count("RuntimeError True") == 3, done
        assert lines.count("Unavailable False") == 2, done
        assert done.returncode == 0, done

    def test_a_client_opened_after_a_fork_works(self, server: TestServer) -> None:
        """Also where the parent had used and closed one before: that takes gRPC's own support for forks, which is on
        unless somebody has turned it off."""
        done = run(
            f"""
            import os
            from queue_manager.client import Client

            def use():
                with Client({server.address!r}) as client:
                    print(len(client.list_targets()), flush=True)

            use()
            if child := os.fork():
                os.waitpid(child, 0)
            use()
            """,
            GRPC_ENABLE_FORK_SUPPORT="1",
        )
        assert done.stdout.split() == ["5", "5", "5"], done


def test_a_program_that_forgets_to_close_it_ends(server: TestServer) -> None:
    """Without a word, also in the middle of an iteration that is only collected when the interpreter ends."""
    with server.client() as client:
        client.start_queue(LOADER)
    done = run(
        f"""
        from queue_manager.client import Client

        client = Client({server.address!r}).__enter__()
        queues = client.list_queues()
        queue = next(queues)
        cycle = [queues]
        cycle.append(cycle)
        print(queue.symbol)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "BTCUSDT\n", "")
