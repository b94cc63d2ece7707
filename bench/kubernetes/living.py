"""What many live Jobs cost: memory, CPU, changes that nobody sees, and how soon a new server knows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter

from bench.figures import Figure, no_more_than
from bench.kubernetes.cluster import Cluster, at_once
from bench.kubernetes.scale import Scale
from bench.kubernetes.server import Manager, managing
from bench.kubernetes.service import IN_FLIGHT
from bench.kubernetes.starting import JOBS
from queue_manager.server.adapters.kubernetes.diagnosis import key_of
from queue_manager.server.adapters.kubernetes.objects import KubernetesJob
from queue_manager.v1 import queue_pb2


async def live(scale: Scale, folder: Path) -> list[Figure]:
    """Thousands of Jobs with running pods in the namespace."""
    async with Cluster() as cluster, cluster.namespace() as namespace:
        async with managing(namespace, folder) as manager:
            jobs = await _running(cluster, manager, scale.live)
            ended = jobs[len(jobs) // 2]
            found = [
                *await _at_rest(manager, scale, len(jobs)),
                await _unseen_changes(cluster, manager, jobs[: scale.live]),
            ]
        # Nobody is there when this one ends.
        await cluster.fail_pod(ended)
        await cluster.fail_job(ended)
        began = monotonic()
        async with managing(namespace, folder) as manager:
            serving = monotonic() - began
            await _until_failed(manager, ended)
            took = monotonic() - began
            note = f"from the process's start until GetQueue has what happened meanwhile; serving after {serving:.2g} s"
            return [*found, Figure(f"restart, {len(jobs):,} live Jobs", took, "s", note=note)]


async def _running(cluster: Cluster, manager: Manager, queues: int) -> list[KubernetesJob]:
    """So many queues of six Jobs, each with a pod that runs."""
    await at_once((manager.start() for _ in range(queues)), IN_FLIGHT)
    await manager.until_jobs(queues * JOBS, "STARTING")
    jobs = await cluster.all_jobs()
    assert len(jobs) == queues * JOBS
    await at_once((cluster.run_pod(job) for job in jobs), IN_FLIGHT)
    await manager.until_jobs(len(jobs), "RUNNING")
    return jobs


async def _at_rest(manager: Manager, scale: Scale, count: int) -> list[Figure]:
    """Nothing happens."""
    await asyncio.sleep(scale.rest)
    cpu, began = manager.cpu, perf_counter()
    await asyncio.sleep(scale.idle)
    share = (manager.cpu - cpu) / (perf_counter() - began) * 100
    return [
        Figure(f"server, {count:,} live Jobs: memory", manager.resident / 2**20, "MiB"),
        Figure(f"server, {count:,} live Jobs: CPU", share, "%", note=f"of one core, over {scale.idle:g} s"),
    ]


async def _unseen_changes(cluster: Cluster, manager: Manager, jobs: Sequence[KubernetesJob]) -> Figure:
    """Jobs change in what no caller sees: the watch tells of it, and nothing is written."""
    writes, cpu = await manager.writes(), manager.cpu
    await at_once((cluster.annotate(job, "changed") for job in jobs), IN_FLIGHT)
    await asyncio.sleep(1.0)  # until the last one has come
    cost = (manager.cpu - cpu) / len(jobs) * 1e3
    note = f"{len(jobs):,} Jobs changed in what no caller sees; {cost:.2g} ms of CPU each"
    return Figure(
        "store writes for unseen changes", await manager.writes() - writes, "", target=no_more_than(0), note=note
    )


async def _until_failed(manager: Manager, ended: KubernetesJob) -> None:
    key = key_of(ended.metadata, ended.metadata.name)
    async with asyncio.timeout(120):
        while True:
            queue = await manager.get(key.queue_id)
            if any(job.name == key.job and job.state == queue_pb2.JOB_STATE_FAILED for job in queue.jobs):
                return
            await asyncio.sleep(0.02)
