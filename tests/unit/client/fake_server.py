"""A Queue Manager that is a script: real gRPC on a real port, with made-up queues and faults on order.

`FakeServer` serves `Journal`s (one a queue: its revisions in order) by the watch contract, and breaks it where a test's
`Plan` says so. `simulate` lets a started queue run through a whole life; run as a program, this file is a stand-in for
`queue-manager serve`: it logs where it serves and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2

from queue_manager.v1 import service_pb2 as api
from queue_manager.v1 import service_pb2_grpc
from queue_manager.v1.queue_pb2 import EventType, Job, JobChange, JobState, Queue, QueueEvent, QueueState, Reason
from queue_manager.v1.target_pb2 import Target

ENDED = {QueueState.QUEUE_STATE_FINISHED, QueueState.QUEUE_STATE_FAILED, QueueState.QUEUE_STATE_STOPPED}
START_TIME = 1_795_503_600
"""2026-11-24T07:00:00Z: revision n of a scripted queue is made n - 1 seconds after it."""


@dataclass(frozen=True)
class Failure:
    """An error to answer with; without details it is what grpc or a proxy would send."""

    code: grpc.StatusCode
    message: str = "scripted"
    details: Sequence[Message] = ()
    raw_details: bytes | None = None


@dataclass(frozen=True)
class Plan:
    """What one watch connection does beside the contract."""

    cut_after: int | None = None
    """Frames until it is cut."""
    cut: Failure | str = "close"
    """How: a failure, `close` (OK without END), or `silent` (nothing more comes)."""
    overlap: int = 0
    """How many revisions that the client has already seen it sends again."""
    merge: Callable[[], int] = lambda: 1
    """How many revisions the next frame stands for."""
    skip: int = 0
    """How many revisions it loses at its beginning, against the contract."""
    snapshot: bool = False
    """Begins with a SNAPSHOT although the client resumed."""
    heartbeats: int = 0
    """How many heartbeats come before the first frame."""


class Journal:
    """One queue's revisions, and whoever waits for the next."""

    def __init__(self, queue: Queue) -> None:
        """`queue` is changed in place by `record`."""
        self.queue = queue
        self.frames: list[api.WatchQueueResponse] = []
        self._changed = asyncio.Event()

    def record(
        self,
        kind: EventType.ValueType,
        *,
        before: QueueState.ValueType | None = None,
        changes: Sequence[JobChange] = (),
        actor: str = "queue-manager",
        at: float | None = None,
    ) -> None:
        """The queue has changed: a revision."""
        queue = self.queue
        queue.revision += 1
        seconds = at if at is not None else START_TIME + queue.revision - 1
        queue.update_time.FromNanoseconds(int(seconds * 1e9))
        if queue.revision == 1:
            queue.create_time.CopyFrom(queue.update_time)
        if queue.state in ENDED:
            queue.end_time.CopyFrom(queue.update_time)
        queue.records_written = sum(job.records_written for job in queue.jobs)
        event = QueueEvent(
            revision=queue.revision,
            time=queue.update_time,
            type=kind,
            before=queue.state if before is None else before,
            after=queue.state,
            job_changes=changes,
            actor=actor,
        )
        frame = api.WatchQueueResponse(
            kind=api.FrameKind.FRAME_KIND_UPDATE, revision=queue.revision, revisions_merged=1, queue=queue, event=event
        )
        self.frames.append(frame)
        self._changed.set()

    def move(
        self, name: str, state: JobState.ValueType, reason: tuple[Reason.ValueType, str] | None = None
    ) -> JobChange:
        """Change a job's state; the change is for `record`."""
        job = next(job for job in self.queue.jobs if job.name == name)
        change = JobChange(job=name, attempt=1, before=job.state, after=state)
        job.state = state
        if reason is not None:
            job.state_reason.code, job.state_reason.message = reason
            change.reason.CopyFrom(job.state_reason)
        return change

    async def changed(self) -> None:
        """Wait for the next revision."""
        self._changed.clear()
        await self._changed.wait()


def scripted_journal(queue_id: str = "wf-btcusdt-api-candles-5m-20240601-a1b2c3", *, revisions: int = 12) -> Journal:
    """A queue of two jobs that has run and ended FINISHED in so many revisions (at least 4)."""
    queue = Queue(queue_id=queue_id, symbol="BTCUSDT", state=QueueState.QUEUE_STATE_PENDING, requested_by="ada@lab")
    for name, kind in (("loader-producer", "api_candles_5m"), ("graph-builder", "gnn_graph")):
        queue.jobs.append(Job(name=name, target=name, type=kind, state=JobState.JOB_STATE_PENDING, attempt=1))
    journal = Journal(queue)
    names = [job.name for job in queue.jobs]
    pending, running = QueueState.QUEUE_STATE_PENDING, QueueState.QUEUE_STATE_RUNNING
    changes = [JobChange(job=name, attempt=1, after=JobState.JOB_STATE_PENDING) for name in names]
    journal.record(EventType.EVENT_TYPE_QUEUE_CREATED, before=QueueState.QUEUE_STATE_UNSPECIFIED, changes=changes)
    queue.state = running
    started = [journal.move(names[0], JobState.JOB_STATE_RUNNING)]
    journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED, before=pending, changes=started)
    for step in range(revisions - 4):
        queue.jobs[0].records_written += 100
        queue.jobs[0].progress = (step + 1) / (revisions - 4)
        journal.record(EventType.EVENT_TYPE_PROGRESS)
    ended = [journal.move(names[0], JobState.JOB_STATE_FINISHED), journal.move(names[1], JobState.JOB_STATE_RUNNING)]
    journal.record(EventType.EVENT_TYPE_JOB_STATE_CHANGED, changes=ended)
    queue.state = QueueState.QUEUE_STATE_FINISHED
    ended = [journal.move(names[1], JobState.JOB_STATE_FINISHED)]
    journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED, before=running, changes=ended)
    return journal


@dataclass
class FakeServer(service_pb2_grpc.QueueManagerServicer):
    """The server; `async with FakeServer() as server` listens on `server.address`."""

    listen: str = "127.0.0.1:0"
    journals: dict[str, Journal] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    diagnosis: api.DiagnoseResponse = field(
        default_factory=lambda: api.DiagnoseResponse(version="1.2.3", parts={"store": "sqlite", "bus": "embedded"})
    )
    failures: dict[str, deque[Failure]] = field(default_factory=lambda: defaultdict(deque))
    """By method: answered one after the other, before any success."""
    plans: deque[Plan] = field(default_factory=deque)
    """One a watch connection, in order; afterwards the contract is kept."""
    calls: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    """Every call: method, request, metadata."""
    on_start: Callable[[Journal], Awaitable[None]] | None = None
    """What a started queue goes through."""
    answer_delay: float = 0.0
    deadlines: dict[str, float] = field(default_factory=dict)
    """By method: the seconds that the newest call of it had."""
    greets: bool = True
    """Tells a watch at once that it is accepted; older servers do so with the first frame."""
    watching: int = 0
    """Watch streams that are open now."""

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._server: grpc.aio.Server | None = None
        self._lives: set[asyncio.Task[None]] = set()
        self.address = self.listen

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_QueueManagerServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        for life in self._lives:
            life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        await self._server.stop(grace=None)

    def requests(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [request for name, request, _ in self.calls if name == method]

    def add(self, journal: Journal) -> Queue:
        """Make a queue known."""
        self.journals[journal.queue.queue_id] = journal
        return journal.queue

    async def _enter(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request, dict(context.invocation_metadata())))
        if (remaining := context.time_remaining()) is not None:
            self.deadlines[method] = remaining
        if self.answer_delay:
            await asyncio.sleep(self.answer_delay)
        if self.failures[method]:
            await fail(context, self.failures[method].popleft())

    async def _journal(self, queue_id: str, context: Any) -> Journal:
        journal = self.journals.get(queue_id)
        if journal is None:
            await fail(context, not_found(queue_id))
        assert journal is not None
        return journal

    async def StartQueue(self, request: api.StartQueueRequest, context: Any) -> api.StartQueueResponse:  # noqa: N802
        await self._enter("StartQueue", request, context)
        for journal in self.journals.values():
            if request.request_id and journal.queue.request_id == request.request_id:
                return api.StartQueueResponse(queue=journal.queue, created=False)
        journal = Journal(planned_queue(request))
        if request.validate_only:
            plan = [
                api.LaunchPlan(
                    job=job.name,
                    worker_name=f"{journal.queue.queue_id}-{job.name}",
                    image=f"streamforge/{job.target}:latest",
                    environment={"SYMBOL": request.symbol, "TYPE": job.type},
                    secret_environment=["KAFKA_PASSWORD"],
                )
                for job in journal.queue.jobs
            ]
            return api.StartQueueResponse(queue=journal.queue, plan=plan)
        self.add(journal)
        journal.record(EventType.EVENT_TYPE_QUEUE_CREATED, before=QueueState.QUEUE_STATE_UNSPECIFIED)
        if self.on_start is not None:
            life = asyncio.ensure_future(self.on_start(journal))
            self._lives.add(life)
        return api.StartQueueResponse(queue=journal.queue, created=True)

    async def StopQueue(self, request: api.StopQueueRequest, context: Any) -> api.StopQueueResponse:  # noqa: N802
        await self._enter("StopQueue", request, context)
        journal = await self._journal(request.queue_id, context)
        queue = journal.queue
        if queue.state not in ENDED:
            for life in self._lives:
                life.cancel()
            queue.stop_reason, queue.stopped_by = request.reason, "ada@lab"
            before, queue.state = queue.state, QueueState.QUEUE_STATE_STOPPING
            journal.record(EventType.EVENT_TYPE_STOP_REQUESTED, before=before, actor="ada@lab")
            answer = api.StopQueueResponse()
            answer.queue.CopyFrom(queue)
            changes = [journal.move(job.name, JobState.JOB_STATE_STOPPED) for job in queue.jobs]
            queue.state = QueueState.QUEUE_STATE_STOPPED
            journal.record(
                EventType.EVENT_TYPE_QUEUE_STATE_CHANGED, before=QueueState.QUEUE_STATE_STOPPING, changes=changes
            )
            return answer
        return api.StopQueueResponse(queue=queue)

    async def GetQueue(self, request: api.GetQueueRequest, context: Any) -> api.GetQueueResponse:  # noqa: N802
        await self._enter("GetQueue", request, context)
        return api.GetQueueResponse(queue=(await self._journal(request.queue_id, context)).queue)

    async def ListQueues(self, request: api.ListQueuesRequest, context: Any) -> api.ListQueuesResponse:  # noqa: N802
        await self._enter("ListQueues", request, context)
        queues = [journal.queue for journal in self.journals.values()][::-1]
        first = int(request.page_token or 0)
        size = request.page_size or 50
        more = first + size < len(queues)
        return api.ListQueuesResponse(
            queues=queues[first : first + size], next_page_token=str(first + size) if more else ""
        )

    async def ListTargets(self, request: api.ListTargetsRequest, context: Any) -> api.ListTargetsResponse:  # noqa: N802
        await self._enter("ListTargets", request, context)
        return api.ListTargetsResponse(targets=self.targets)

    async def Diagnose(self, request: api.DiagnoseRequest, context: Any) -> api.DiagnoseResponse:  # noqa: N802
        await self._enter("Diagnose", request, context)
        return self.diagnosis

    async def ListDeadLetters(  # noqa: N802
        self, request: api.ListDeadLettersRequest, context: Any
    ) -> api.ListDeadLettersResponse:
        await self._enter("ListDeadLetters", request, context)
        return api.ListDeadLettersResponse()

    async def ReplayDeadLetters(  # noqa: N802
        self, request: api.ReplayDeadLettersRequest, context: Any
    ) -> api.ReplayDeadLettersResponse:
        await self._enter("ReplayDeadLetters", request, context)
        return api.ReplayDeadLettersResponse(replayed_ids=request.ids)

    async def WatchQueue(  # noqa: N802
        self, request: api.WatchQueueRequest, context: Any
    ) -> AsyncIterator[api.WatchQueueResponse]:
        await self._enter("WatchQueue", request, context)
        journal = await self._journal(request.queue_id, context)
        plan = self.plans.popleft() if self.plans else Plan()
        after = request.after_revision if request.HasField("after_revision") else None
        if after is not None and after > journal.queue.revision:
            await fail(context, Failure(grpc.StatusCode.OUT_OF_RANGE, "after_revision is in the future"))
        heartbeat = request.heartbeat_interval.ToNanoseconds() / 1e9
        if self.greets:
            await context.send_initial_metadata(())
        frames = watch_frames(journal, after, plan, heartbeat)
        sent = 0
        self.watching += 1
        try:
            while sent != plan.cut_after:
                if (frame := await anext(frames, None)) is None:
                    return
                sent += 1
                yield frame
            await self._cut(plan.cut, context)
        finally:
            self.watching -= 1

    async def _cut(self, how: Failure | str, context: Any) -> None:
        if isinstance(how, Failure):
            await fail(context, how)
        elif how == "silent":
            await asyncio.Event().wait()


async def watch_frames(
    journal: Journal, after: int | None, plan: Plan, heartbeat: float
) -> AsyncIterator[api.WatchQueueResponse]:
    """The contract's frames from a revision on, with the plan's faults."""
    queue = journal.queue
    for _ in range(plan.heartbeats):
        yield api.WatchQueueResponse(kind=api.FrameKind.FRAME_KIND_HEARTBEAT, revision=queue.revision)
    if after is None or plan.snapshot:
        # A queue that has ended is watched from its first revision, as by somebody who was there in time.
        base = journal.frames[min(after or 1, len(journal.frames)) - 1]
        yield api.WatchQueueResponse(
            kind=api.FrameKind.FRAME_KIND_SNAPSHOT,
            revision=base.revision,
            revisions_merged=base.revision,
            queue=base.queue,
        )
        at = base.revision
    else:
        at = max(0, after - plan.overlap)
    at += plan.skip
    while True:
        while at < len(journal.frames):
            step = min(plan.merge(), len(journal.frames) - at)
            frame = api.WatchQueueResponse()
            frame.CopyFrom(journal.frames[at + step - 1])
            frame.revisions_merged = step
            at += step
            yield frame
        if queue.state in ENDED:
            yield api.WatchQueueResponse(kind=api.FrameKind.FRAME_KIND_END, revision=queue.revision, queue=queue)
            return
        try:
            async with asyncio.timeout(heartbeat):
                await journal.changed()
        except TimeoutError:
            yield api.WatchQueueResponse(kind=api.FrameKind.FRAME_KIND_HEARTBEAT, revision=queue.revision)


async def fail(context: Any, failure: Failure) -> None:
    """Abort the call with the failure, its details in the trailing metadata as the server sends them."""
    if failure.raw_details is not None:
        value = failure.raw_details
    elif failure.details:
        status = status_pb2.Status(code=failure.code.value[0], message=failure.message)
        for detail in failure.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        value = status.SerializeToString()
    else:
        value = b""
    trailing = (("grpc-status-details-bin", value),) if value else ()
    await context.abort(failure.code, failure.message, trailing_metadata=trailing)


def not_found(queue_id: str) -> Failure:
    """As the server says it."""
    from google.rpc import error_details_pb2  # noqa: PLC0415

    info = error_details_pb2.ErrorInfo(reason="QUEUE_NOT_FOUND", domain="queue-manager.streamforge")
    resource = error_details_pb2.ResourceInfo(resource_type="Queue", resource_name=queue_id)
    return Failure(grpc.StatusCode.NOT_FOUND, f"queue {queue_id!r} does not exist", (info, resource))


def planned_queue(request: api.StartQueueRequest) -> Queue:
    """The queue that a request asks for, all PENDING."""
    first = request.requests[0].type.replace("_", "-") if request.requests else "none"
    suffix = "".join(random.Random(request.request_id).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6))
    queue = Queue(
        queue_id=f"wf-{request.symbol.lower()}-{first}-20240601-{suffix}",
        symbol=request.symbol,
        time_range=request.time_range,
        labels=request.labels,
        state=QueueState.QUEUE_STATE_PENDING,
        request_id=request.request_id,
        failure_policy=request.failure_policy,
    )
    seen: dict[str, int] = defaultdict(int)
    for entry in request.requests:
        seen[entry.target] += 1
        number = f"-{seen[entry.target]}" if seen[entry.target] > 1 else ""
        job = Job(name=f"{entry.target}{number}", target=entry.target, type=entry.type, attempt=1)
        job.state = JobState.JOB_STATE_PENDING
        queue.jobs.append(job)
    return queue


async def simulate(journal: Journal, *, tick: float = 0.2, fail_job: str = "") -> None:
    """Let a queue run: its jobs start one after the other, report progress, and end; `fail_job` fails half-way."""
    loop = asyncio.get_running_loop()
    queue = journal.queue
    names = [job.name for job in queue.jobs]
    begun = loop.time()
    wall_clock = bool(os.environ.get("FAKE_WALL_CLOCK"))
    if wall_clock:
        queue.create_time.FromNanoseconds(time.time_ns())

    def now() -> float:
        return time.time() if wall_clock else START_TIME + loop.time() - begun

    for state in (JobState.JOB_STATE_LAUNCHING, JobState.JOB_STATE_STARTING, JobState.JOB_STATE_RUNNING):
        for name in names:
            await asyncio.sleep(tick / 4)
            before, queue.state = queue.state, QueueState.QUEUE_STATE_RUNNING
            changes = [journal.move(name, state)]
            kind = EventType.EVENT_TYPE_JOB_STATE_CHANGED
            journal.record(kind, before=before, changes=changes, at=now())
    for step in range(1, 21):
        await asyncio.sleep(tick)
        for index, job in enumerate(queue.jobs):
            if job.state != JobState.JOB_STATE_RUNNING:
                continue
            job.records_written = step * 1234 * (index + 1)
            job.message = f"loading day {step} of 20"
            if index != 3:
                job.progress = step / 20
            if job.name == fail_job and step == 10:
                reason = (Reason.REASON_EXIT_CODE, "the process exited with code 3: ValueError: cannot read candle 17")
                changes = [journal.move(job.name, JobState.JOB_STATE_FAILED, reason)]
                journal.record(EventType.EVENT_TYPE_JOB_STATE_CHANGED, changes=changes, at=now())
        journal.record(EventType.EVENT_TYPE_PROGRESS, at=now())
    for name in names:
        if name == fail_job:
            continue
        await asyncio.sleep(tick / 4)
        changes = [journal.move(name, JobState.JOB_STATE_FINISHED)]
        if name == names[-1]:
            break
        journal.record(EventType.EVENT_TYPE_JOB_STATE_CHANGED, changes=changes, at=now())
    queue.state = QueueState.QUEUE_STATE_FAILED if fail_job else QueueState.QUEUE_STATE_FINISHED
    kind = EventType.EVENT_TYPE_QUEUE_STATE_CHANGED
    journal.record(kind, before=QueueState.QUEUE_STATE_RUNNING, changes=changes, at=now())


async def serve() -> None:
    """Be `queue-manager serve`, so far as a program that calls it can tell."""
    tick = float(os.environ.get("FAKE_TICK", "0.05"))
    fail_job = os.environ.get("FAKE_FAIL_JOB", "")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    listen = os.environ.get("QM_GRPC_LISTEN", "127.0.0.1:0")
    server = FakeServer(listen=listen, on_start=lambda journal: simulate(journal, tick=tick, fail_job=fail_job))
    if os.environ.get("FAKE_DIE"):
        sys.exit("the database is locked")
    async with server:
        print(json.dumps({"event": "starting"}), file=sys.stderr, flush=True)
        line = {"event": "serving", "grpc": server.address, "metrics": "127.0.0.1:1"}
        print(json.dumps(line), file=sys.stderr, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve())
