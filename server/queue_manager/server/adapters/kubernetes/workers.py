"""What is known of the workers of a namespace: copies of their Jobs and pods, and what is remembered beyond them.

The copies are the watches' (`reflector`), read by `diagnosis`; that there is no Job of a name is believed only when the
API, asked for this very Job, says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Final, TypeVar

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, Refusal
from queue_manager.server.adapters.kubernetes.denials import MOUNTING, NO_POD, NOT_PREPARED, Denials
from queue_manager.server.adapters.kubernetes.diagnosis import (
    LOOK_FOR_PODS,
    Patience,
    ended_by_us,
    is_explained,
    job_of,
    key_of,
    standing,
)
from queue_manager.server.adapters.kubernetes.objects import JOB_NAME_LABEL, JOBS, PODS, KubernetesJob, Pod
from queue_manager.server.adapters.kubernetes.reflector import Observe, Reflector
from queue_manager.server.application.ports import Clock, Wake
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import Reason
from queue_manager.server.domain.observation import Phase, WorkerStatus

LOOK_AT_MOST: Final = 60.0
"""Seconds after which a Job without a pod is looked at again at the latest."""

ASK_AGAIN: Final = 5.0
"""Seconds after which a deletion is asked for once more, if it has not come to an end."""

PREPARING: Final = frozenset({"ContainerCreating", "PodInitializing"})

SYNC_WAIT: Final = 10.0
"""Seconds to wait for the first list of Jobs."""

ENDS_KEPT: Final = 10_000
"""Ends of workers that are remembered although their Jobs are gone."""

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class _Worker:
    """What is remembered of a worker beyond its Job, for as long as there is one."""

    pods: dict[str, Pod] = dataclasses.field(default_factory=dict)
    """By name. Those that have gone stay."""
    cut_off: bool = False
    """A pod of it was seen to be deleted while it ran."""
    trouble: Reason | None = None
    """What it waits for that may not come."""
    since: float = 0.0
    """When that was seen first, in UTC seconds."""
    deleted: str = ""
    """The uid of its Job, where we are deleting it."""
    deletion: tuple[float, float] | None = None
    """When that was asked for last, by the event loop's clock, and with which grace."""
    left: KubernetesJob | None = None
    """Its Job, where that was deleted by us and is gone before the watch has told how its pods ended."""


class Workers:
    """`watching` keeps it up to date."""

    def __init__(
        self, api: Api, *, rng: Random, clock: Clock, patience: Patience, launching: Container[str], observe: Observe
    ) -> None:
        """`launching`: names of the workers whose launch is under way; of these the launch tells."""
        self.wake: Wake = lambda _queue_id, _delay=0.0: None
        self.jobs = Reflector(api, JOBS, manifest.SELECTOR, changed=self._job_changed, rng=rng, observe=observe)
        self.pods = Reflector(api, PODS, manifest.SELECTOR, changed=self._pod_changed, rng=rng, observe=observe)
        self._api = api
        self._clock = clock
        self._patience = patience
        self._launching = launching
        self._known: defaultdict[str, _Worker] = defaultdict(_Worker)
        self._ends: OrderedDict[str, WorkerStatus] = OrderedDict()
        """How workers ended that we deleted, by name."""
        self._deleted: OrderedDict[str, KubernetesJob] = OrderedDict()
        """Jobs that we deleted, by name, until they and their pods are known to be gone."""
        self._no_pod, self._not_prepared = Denials(api, NO_POD), Denials(api, NOT_PREPARED, lasts=MOUNTING)

    @property
    def watching(self) -> Mapping[str, Reflector[KubernetesJob] | Reflector[Pod]]:
        """The copies, by resource; each wants its `run` to run."""
        return {"jobs": self.jobs, "pods": self.pods}

    async def synced(self) -> None:
        """Once the Jobs and pods that there are have been listed. Raises `Unavailable`."""
        if self.jobs.synced.is_set() and self.pods.synced.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_WAIT):
                await self.jobs.tried.wait()
                await self.pods.tried.wait()
        if not (self.jobs.synced.is_set() and self.pods.synced.is_set()):
            why = self.jobs.problem or self.pods.problem or "the API has not answered yet"
            raise Unavailable(f"namespace {self._api.namespace} has not been listed: {why}")

    async def observe(self, keys: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """How each of these stands, in the same order. Raises `Unavailable`."""
        await self.synced()
        if all(key.name in self.jobs.objects for key in keys):  # hardly anything is asked of the API
            return [await self._observe(key) for key in keys]
        return await asyncio.gather(*(self._observe(key) for key in keys))

    async def made(self, key: WorkerKey, job: KubernetesJob) -> WorkerStatus:
        """How a worker stands whose Job we have just made."""
        newest = self.jobs.put(job)
        if newest.metadata.version != job.metadata.version or key.name in self._known:
            return await self.explained(key, newest)
        self.wake(key.queue_id, LOOK_FOR_PODS)
        return standing(key, job, ())[0]

    def alive(self) -> Sequence[WorkerKey]:
        """Those that are not over, nor being deleted; also pods whose Job is gone, if somebody deleted it without them."""
        jobs = self.jobs.objects
        alone = (pod for pod in self.pods.objects.values() if not pod.over and job_of(pod) not in jobs)
        found = [(name, job.metadata) for name, job in jobs.items() if job.ending is None]
        found += [(job_of(pod), pod.metadata) for pod in alone]
        return [key_of(metadata, name) for name, metadata in found if name and metadata.deletion_time is None]

    async def job(self, name: str) -> KubernetesJob | None:
        """The Job, asked afresh."""
        with needed(f"get job {name}"):
            try:
                job = await self._api.ask(self.jobs.read, "get", JOBS.resource, name)
            except Refusal as refusal:
                if refusal.code == 404 and refusal.reason == "NotFound":
                    self.jobs.drop(name)
                    return None
                raise
        self.jobs.put(job)
        return job

    async def fresh_pods(self, name: str) -> Mapping[str, Pod]:
        """The pods of a Job by name, asked afresh, and kept while there is a Job."""
        query = {"labelSelector": f"{JOB_NAME_LABEL}={name}"}
        with needed(f"list pods of {name}"):
            page = await self._api.ask(PODS.read_list, "list", PODS.resource, query=query)
        pods = {pod.metadata.name: pod for pod in page.items}
        if not pods or name not in self.jobs.objects:
            return pods
        for pod in pods.values():
            self._keep(name, pod)
        return self._known[name].pods

    def deleting(self, job: KubernetesJob) -> None:
        """We begin to delete this Job: how its worker ends is to be remembered."""
        _put(self._deleted, job.metadata.name, job)
        if job.metadata.name in self.jobs.objects:  # else it has gone already
            self._known[job.metadata.name].deleted = job.metadata.uid

    def is_leaving(self, name: str, grace: float) -> bool:
        """Whether its deletion has just been asked for, with no more grace than that: asking again would tell nothing."""
        known = self._known.get(name)
        if known is None or known.deletion is None:
            return False
        asked_at, given = known.deletion
        return asyncio.get_running_loop().time() < asked_at + ASK_AGAIN and given <= grace

    def leaves(self, name: str, grace: float) -> None:
        """Its deletion has been asked for, and accepted."""
        if (known := self._known.get(name)) is not None:
            known.deletion = asyncio.get_running_loop().time(), grace

    def forget(self, name: str) -> None:
        """Nobody will ask how this one ended."""
        self._ends.pop(name, None)
        self._deleted.pop(name, None)

    async def explained(self, key: WorkerKey, job: KubernetesJob) -> WorkerStatus:
        """How it stands; where it has ended and its pod's end has not come over the watch yet, the pod is asked for.

        What the watch tells of the Job while something is asked is in the answer.
        """
        status = await self._explained(key, job)
        newest = self.jobs.objects.get(key.name)
        if newest is not None and newest.metadata.version > job.metadata.version:
            return await self.explained(key, newest)
        return status

    async def _explained(self, key: WorkerKey, job: KubernetesJob) -> WorkerStatus:
        now = self._clock.now()
        age = now - (job.metadata.creation_time or now)
        known, kept_out = self._known.get(key.name), None
        pods: Mapping[str, Pod] = {} if known is None else known.pods
        if job.ending is not None:
            if not is_explained(pods.values()):
                pods = await self.fresh_pods(key.name)
        elif not pods and age >= LOOK_FOR_PODS:
            if self.pods.problem:  # else the watch would have told of one
                pods = await self.fresh_pods(key.name)
            kept_out = None if pods else await self._no_pod.of(job.metadata.uid, now)
        elif (pod := _being_prepared(pods.values())) is not None and age >= LOOK_FOR_PODS:
            kept_out = await self._not_prepared.of(pod.metadata.uid, now)
        known = self._known.get(key.name)
        cut_off = known is not None and known.cut_off
        status, patience = standing(
            key, job, pods.values(), cut_off=cut_off, kept_out=kept_out, patience=self._patience
        )
        until = self._until(key.name, status, patience, now)
        if until is not None and until <= now:
            # It will be deleted for that: so not on what the watch may have told long ago.
            had_none, pods = not pods, await self.fresh_pods(key.name)
            kept_out = None if had_none and pods else kept_out
            status, patience = standing(key, job, pods.values(), kept_out=kept_out, patience=self._patience)
            until = self._until(key.name, status, patience, now)
        look_in = None if until is None else max(0.0, until - now)
        if status.phase is Phase.WAITING and (not pods or _being_prepared(pods.values()) is not None):
            look_in = min(max(LOOK_FOR_PODS, age / 2), LOOK_AT_MOST) if look_in is None else min(LOOK_FOR_PODS, look_in)
        hopeless = until is not None and until <= now
        if look_in is not None and not hopeless:
            self.wake(key.queue_id, look_in)
        return dataclasses.replace(status, hopeless=True) if hopeless else status

    async def _observe(self, key: WorkerKey) -> WorkerStatus:
        job = self.jobs.objects.get(key.name)
        if job is None and key.name not in self._ends:
            job = await self.job(key.name)
        return await self._without_job(key) if job is None else await self.explained(key, job)

    async def _without_job(self, key: WorkerKey) -> WorkerStatus:
        """How a worker stands whose Job is gone.

        Where we deleted it, its pod may have been made at that very moment: the garbage collector did not know it then.
        """
        if (end := self._ends.get(key.name)) is not None:
            return end
        if (job := self._deleted.get(key.name)) is not None:
            pods = (await self.fresh_pods(key.name)).values()
            if any(not pod.over for pod in pods):
                return standing(key, job, pods)[0]
            del self._deleted[key.name]
            if self._remember(job, pods):
                return self._ends[key.name]
        return WorkerStatus(key=key, phase=Phase.ABSENT)

    def _keep(self, job_name: str, pod: Pod) -> None:
        """Keep a pod as it is, unless it is known in a newer form: the watch may overtake an answer, and the other way."""
        pods, name = self._known[job_name].pods, pod.metadata.name
        if name not in pods or pods[name].metadata.version <= pod.metadata.version:
            pods[name] = pod

    def _until(self, name: str, status: WorkerStatus, patience: float | None, now: float) -> float | None:
        """When a worker has waited too long for what it waits for; counted from when that was seen first."""
        if status.reason is None or patience is None or status.phase is not Phase.WAITING:
            if (known := self._known.get(name)) is not None:
                known.trouble = None
            return None
        worker = self._known[name]
        if worker.trouble is not status.reason.code:
            worker.trouble, worker.since = status.reason.code, now
        return worker.since + patience

    # --- what the watches bring ---

    def _job_changed(self, job: KubernetesJob) -> None:
        name = job.metadata.name
        if name not in self.jobs.objects:
            self._gone(job)
        elif name in self._launching:
            return
        self.wake((job.metadata.labels or {}).get(manifest.QUEUE_ID, ""))

    def _gone(self, job: KubernetesJob) -> None:
        worker = self._known.pop(job.metadata.name, None)
        if worker is None or worker.deleted != job.metadata.uid or self._remember(job, worker.pods.values()):
            return
        if any(pod in self.pods.objects for pod in worker.pods):
            worker.left = job
            self._known[job.metadata.name] = worker

    def _pod_changed(self, pod: Pod) -> None:
        job_name, is_there = job_of(pod), pod.metadata.name in self.pods.objects
        worker = self._known.get(job_name)
        if worker is not None and worker.left is not None:
            if self._remember(worker.left, [pod]) or not is_there:
                del self._known[job_name]
        elif is_there or job_name in self.jobs.objects:
            self._keep(job_name, pod)
            if pod.metadata.deletion_time is not None and pod.container(manifest.CONTAINER).running is not None:
                self._known[job_name].cut_off = True
        else:
            self._known.pop(job_name, None)
        self.wake((pod.metadata.labels or {}).get(manifest.QUEUE_ID, ""))

    def _remember(self, job: KubernetesJob, pods: Iterable[Pod]) -> bool:
        """How a worker ended that we deleted. Whether its pods say so."""
        key = key_of(job.metadata, job.metadata.name)
        if (end := ended_by_us(key, job, pods)) is None:
            return False
        _put(self._ends, key.name, end)
        self._deleted.pop(key.name, None)
        return True


def _put(kept: OrderedDict[str, T], name: str, value: T) -> None:
    kept[name] = value
    if len(kept) > ENDS_KEPT:
        kept.popitem(last=False)


def _being_prepared(pods: Iterable[Pod]) -> Pod | None:
    """The pod that has a node, and waits for its volumes and its sandbox: what keeps it, only events tell."""
    for pod in pods:
        scheduled, container = pod.condition("PodScheduled"), pod.container(manifest.CONTAINER)
        has_node = scheduled is not None and scheduled.status == "True"
        began = container.running is not None or container.terminated is not None or pod.over
        if has_node and not began and (container.waiting is None or container.waiting.reason in PREPARING):
            return pod
    return None


@contextmanager
def needed(what: str, *, but: Container[int] = ()) -> Iterator[None]:
    """What is refused or not answered inside is `Unavailable`; a refusal with one of the codes in `but` is passed over."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code not in but:
            raise unavailable(what, refusal) from refusal
    except NoAnswer as error:
        raise Unavailable(str(error)) from error


def unavailable(what: str, refusal: Refusal) -> Unavailable:
    """A refusal that may pass, in the core's words."""
    return Unavailable(f"{what}: {refusal}", retry_after=refusal.retry_after)
