"""From what Kubernetes says of a Job to what a watcher is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

from bench.figures import Figure, compared, percentile
from bench.kubernetes.cluster import at_once
from bench.kubernetes.scale import Scale
from bench.kubernetes.starting import JOBS, opened
from queue_manager.server.adapters.kubernetes.diagnosis import key_of
from queue_manager.v1 import queue_pb2, service_pb2


async def condition(scale: Scale, folder: Path) -> list[Figure]:
    """A Job's condition is set: when a `WatchQueue` frame has it, and when a bare watch of Jobs has it."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        watch = await stack.enter_async_context(cluster.watch())
        frames, events = [], []
        for _ in range(max(1, scale.samples // JOBS)):
            queue_id = await manager.start()
            await manager.until_jobs(JOBS, "STARTING")
            jobs = [job for job in await cluster.all_jobs() if key_of(job.metadata, "").queue_id == queue_id]
            await at_once((cluster.run_pod(job) for job in jobs), JOBS)
            await manager.until_jobs(JOBS, "RUNNING")
            stream = manager.frames(queue_id)
            for job in jobs:
                await cluster.fail_pod(job)  # the kubelet's word; the Job's is what counts
                await asyncio.sleep(0.02)
                began = monotonic()
                failing = asyncio.create_task(cluster.fail_job(job))
                await _until_failed(stream, key_of(job.metadata, "").job)
                frames.append((monotonic() - began) * 1e3)
                await failing
                name = job.metadata.name
                await watch.until(lambda seen, name=name: name in seen.ended)  # type: ignore[misc]
                events.append((watch.ended[name] - began) * 1e3)
            stream.cancel()
            await manager.until_none()
        at = [(percentile(frames, percent), percentile(events, percent)) for percent in (50, 99)]
        note = f"{len(frames)} Jobs one by one, from before the condition is sent; bare: a watch of Jobs"
        return [
            compared("Job condition → frame, p50", "ms", at[:1], note=note),
            compared("Job condition → frame, p99", "ms", at[1:]),
        ]


async def _until_failed(stream: AsyncIterable[bytes], job: str) -> None:
    async for data in stream:
        frame = service_pb2.WatchQueueResponse.FromString(data)
        if any(each.name == job and each.state == queue_pb2.JOB_STATE_FAILED for each in frame.queue.jobs):
            return
