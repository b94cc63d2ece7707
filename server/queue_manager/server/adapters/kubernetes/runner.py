"""The `Runner` port over Kubernetes: a Job for each worker.

A worker's name is its Job's, and Kubernetes takes a name once: however often a launch is repeated, by whichever server,
there is one Job. How workers stand is `workers`' to say.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Container, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import structlog

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.api import LOCKED_OUT, Api, NoAnswer, NotSent, Refusal
from queue_manager.server.adapters.kubernetes.diagnosis import PATIENT, RUNNER, Patience, hash_of
from queue_manager.server.adapters.kubernetes.objects import KubernetesJob
from queue_manager.server.adapters.kubernetes.options import DEFAULT_OPTIONS, PodOptions
from queue_manager.server.adapters.kubernetes.patterns import Patterns
from queue_manager.server.adapters.kubernetes.permissions import Permissions
from queue_manager.server.adapters.kubernetes.reflector import Observe
from queue_manager.server.adapters.kubernetes.workers import Workers, needed, unavailable
from queue_manager.server.application.ports import Clock, Wake
from queue_manager.server.domain.errors import Declined, Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Reason, StateReason, cut
from queue_manager.server.domain.observation import Refused, WorkerStatus

log = structlog.get_logger(__name__)

LAUNCH_SETTLE: Final = 60.0
"""Seconds after which a POST that was sent can no longer take effect: an API server gives up a request after 60 s
(`--request-timeout`), also one that it has accepted and not begun."""

NEVER_ACCEPTED: Final = frozenset({400, 404, 422})
"""Answers to a create that repeating it does not change."""

AS_IT_IS: Final = {"fieldValidation": "Ignore"}
"""A Job that we make has no unknown fields; to look for them costs the API."""

STRICTLY: Final = {"fieldValidation": "Strict"}
"""What a target's patch adds may be misspelt: then it is refused, not left out."""

KNOCKING: Final = 3.0
"""Seconds in which an API that was silent has to answer to count as there again."""

MUTATIONS: Final = 64
"""Calls that change something and go on at the same time."""


class KubernetesRunner:
    """Runs workers as Jobs of one namespace. `async with` opens and closes it; closing leaves them running."""

    name = RUNNER
    launch_settle = LAUNCH_SETTLE

    def __init__(
        self,
        api: Api,
        *,
        rng: Random,
        secret: str,
        options: Mapping[str, PodOptions] | None = None,
        clock: Clock,
        patience: Patience = PATIENT,
        start_allowance: float = manifest.START_ALLOWANCE,
        unheard: bool = False,
        observe: Observe = lambda *_: None,
    ) -> None:
        """`secret`: the Secret with the platform's secrets. `options`: by target; others have the defaults.

        `unheard`: no bus reaches the workers, so that nobody need wait for the last words of one that has ended.
        """
        self._api = api
        self._secret = secret
        self._options = options or {}
        self._start_allowance = start_allowance
        self._bodies = Patterns(self._manifest)
        self._unheard = unheard
        self._launches: dict[str, asyncio.Task[WorkerStatus | Refused]] = {}
        self._workers = Workers(api, rng=rng, clock=clock, patience=patience, launching=self._launches, observe=observe)
        self._permissions = Permissions(api)
        self._mutations = asyncio.Semaphore(MUTATIONS)
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for resource, copy in self._workers.watching.items():
            self._running.push_async_callback(_cancelled, asyncio.create_task(copy.run(), name=f"watch {resource}"))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._launches:
            await asyncio.wait(self._launches.values())
        await self._permissions.close()
        await self._running.aclose()

    # --- the port ---

    def launch(self, spec: LaunchSpec) -> Awaitable[WorkerStatus | Refused]:
        """See `ports.Runner`. Calls of the same name join; a call that is cancelled goes on by itself."""
        name = spec.key.name
        task = self._launches.get(name)
        if task is None:
            task = self._launches[name] = asyncio.create_task(self._launch_once(spec), name=f"launch {name}")
        return asyncio.shield(task)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """See `ports.Runner`: each Job is created for show (`dryRun`), and no unknown field is passed over."""
        refusals = await asyncio.gather(*(self._rehearse(spec) for spec in specs))
        return [refused for refused in refusals if refused is not None]

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See `ports.Runner`."""
        under_way = [task for key in workers if (task := self._launches.get(key.name)) is not None]
        if under_way:
            await asyncio.wait(under_way)
        found = await self._workers.observe(workers)
        return [replace(status, telemetry_complete=True) for status in found] if self._unheard else found

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`. The least grace that Kubernetes has is a second.

        The pods go first, each with the grace that is asked for here: those that the Job takes with it would have their
        own. Nothing comes after them, because a Job of ours makes one pod.
        """
        if (launching := self._launches.get(worker.name)) is not None:
            await asyncio.wait([launching])
        seconds = max(1, math.ceil(grace))
        if self._workers.is_leaving(worker.name, seconds):
            return
        job = self._workers.jobs.objects.get(worker.name) or await self._workers.job(worker.name)
        if job is not None and job.ending is not None:
            return
        pods = (await self._workers.fresh_pods(worker.name)).values()
        if job is not None and pods and all(pod.over for pod in pods):
            # It has ended by itself, and the watch is silent of it, or about to tell: so that how is not lost.
            job = await self._workers.job(worker.name)
            if job is None or job.ending is not None:
                self._workers.wake(worker.queue_id)
                return
        if job is not None:
            self._workers.deleting(job)
        for pod in pods:
            left = pod.metadata.deletion_grace
            if not pod.over and (left is None or left > seconds):
                await self._remove("pods", pod.metadata.name, pod.metadata.uid, gracePeriodSeconds=seconds)
        if job is not None and job.metadata.deletion_time is None:
            await self._remove("jobs", worker.name, job.metadata.uid, propagationPolicy="Foreground")
        self._workers.leaves(worker.name, seconds)

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """See `ports.Runner`. Kubernetes removes them an hour later; those that were stopped go at once."""
        await self._workers.synced()
        recorded = {
            "metadata": {"annotations": {manifest.RECORDED: "true"}},
            "spec": {"ttlSecondsAfterFinished": manifest.KEPT_RECORDED},
        }
        left = [(worker, job) for worker in workers if (job := self._workers.jobs.objects.get(worker.name)) is not None]
        await asyncio.gather(
            *(
                self._remove_ended(worker, job) if worker in stopped else self._patch(worker, recorded)
                for worker, job in left
            )
        )

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`. A worker that still runs is left as it is."""
        for worker in workers:
            self._workers.forget(worker.name)
            if (job := await self._workers.job(worker.name)) is not None:
                await self._remove_ended(worker, job)

    async def alive(self) -> Sequence[WorkerKey]:
        """See `ports.Runner`. Not those that are being deleted already, with whatever grace they were given."""
        await self._workers.synced()
        return self._workers.alive()

    def subscribe(self, wake: Wake) -> None:
        """See `ports.Runner`."""
        self._workers.wake = wake

    async def check(self) -> None:
        """See `ports.Runner`."""
        if self._api.silent or self._api.locked_out:
            await self._knock()
        if missing := await self._permissions.missing():
            raise Unavailable(
                f"not allowed in namespace {self._api.namespace}: {', '.join(missing)}; "
                "give the server's account a Role with that (docs/kubernetes.md)"
            )
        await self._workers.synced()
        for resource, copy in self._workers.watching.items():
            if copy.problem:
                raise Unavailable(f"{resource} of namespace {self._api.namespace} cannot be watched: {copy.problem}")

    async def _knock(self) -> None:
        """Whether the API answers now, and lets us in. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(KNOCKING):
                await self._api.call("list", "jobs", query={"limit": "1"})
        except (NoAnswer, TimeoutError) as error:
            raise Unavailable(f"Kubernetes does not answer: {str(error) or f'not within {KNOCKING:.0f} s'}") from error
        except Refusal as refusal:
            if refusal.code == LOCKED_OUT:
                raise Unavailable(f"Kubernetes does not let the server's account in: {refusal}") from refusal

    def watch_ages(self) -> Mapping[str, float]:
        """By resource: seconds since its watch last said anything."""
        return {resource: copy.age for resource, copy in self._workers.watching.items()}

    # --- launching ---

    def _manifest(self, spec: LaunchSpec) -> dict[str, Any]:
        return manifest.job(
            spec,
            namespace=self._api.namespace,
            secret=self._secret,
            options=self._options.get(spec.target, DEFAULT_OPTIONS),
            start_allowance=self._start_allowance,
        )

    async def _rehearse(self, spec: LaunchSpec) -> Refused | None:
        query = {"dryRun": "All", **STRICTLY}
        try:
            async with self._mutations:
                await self._api.call("create", "jobs", body=self._manifest(spec), query=query, metadata_only=True)
        except Refusal as refusal:
            return _refused(spec.key, refusal, final={*NEVER_ACCEPTED, 403})  # a quota, a rule, a missing right
        except NoAnswer as error:
            raise Unavailable(str(error)) from error
        return None

    async def _launch_once(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        try:
            return await self._launch(spec)
        finally:  # what the watch brings from here on is no longer told by the launch
            del self._launches[spec.key.name]

    async def _launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        try:
            async with self._mutations:
                read, body = self._workers.jobs.read, self._bodies(spec)
                query = AS_IT_IS if isinstance(body, bytes) else STRICTLY
                made = await self._api.ask(read, "create", "jobs", body=body, query=query, metadata_only=True)
        except Refusal as refusal:
            if refusal.code == 409 and refusal.reason == "AlreadyExists":
                return await self._adopt(spec.key)
            return _refused(spec.key, refusal, final=NEVER_ACCEPTED)
        except NotSent as error:
            raise Declined(str(error)) from error
        except NoAnswer as error:  # whether it was made is seen by looking, before it is tried again
            raise Unavailable(f"whether Job {spec.key.name} was created cannot be said yet: {error}") from error
        return await self._workers.made(spec.key, made)

    async def _adopt(self, key: WorkerKey) -> WorkerStatus:
        """What there is of that name, whoever made it."""
        job = await self._workers.job(key.name)
        if job is None:
            raise Unavailable(f"whether Job {key.name} was created cannot be said yet")
        return await self._workers.explained(key, job)

    # --- changing ---

    async def _remove(self, resource: str, name: str, uid: str, **options: Any) -> None:
        """Delete this very object; one that is gone, or has made way for another of its name, is none of ours."""
        body = {"preconditions": {"uid": uid}, **options}
        with needed(f"delete {resource} {name}", but={404, 409}):
            async with self._mutations:
                await self._api.call("delete", resource, name, body=body)

    async def _remove_ended(self, worker: WorkerKey, job: KubernetesJob) -> None:
        """Remove the Job of a worker that has ended, with its pod. Somebody else's, and one that still runs, are left."""
        if not hash_of(worker, job):
            return
        if job.ending is None:
            log.warning("a worker that is to be removed still runs", worker=worker.name)
            return
        await self._remove("jobs", worker.name, job.metadata.uid, propagationPolicy="Background")
        newest = self._workers.jobs.objects.get(worker.name)
        if newest is not None and newest.metadata.uid == job.metadata.uid:
            self._workers.jobs.drop(worker.name)

    async def _patch(self, worker: WorkerKey, body: Mapping[str, Any]) -> None:
        with needed(f"patch job {worker.name}", but={404}):
            async with self._mutations:
                await self._api.call("patch", "jobs", worker.name, body=body)


def _refused(key: WorkerKey, refusal: Refusal, *, final: Container[int]) -> Refused:
    """What will never be accepted, as these codes mean it; what may be later is raised as `Unavailable`."""
    if refusal.code in final and refusal.reason:  # Kubernetes' own word, no proxy's
        text = f"Kubernetes refuses its Job: {refusal.message}"
        return Refused(key, StateReason(code=Reason.CONFIG_ERROR, message=cut(text)))
    if refusal.code in {LOCKED_OUT, 403, 409, 429}:  # 409: many creates at once are counted against a quota
        raise Declined(f"create jobs: {refusal}", retry_after=refusal.retry_after)
    raise unavailable("create jobs", refusal)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
