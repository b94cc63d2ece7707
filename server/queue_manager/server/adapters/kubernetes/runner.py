"""The `Runner` port over Kubernetes: a Job for each worker.

A worker's name is its Job's, and Kubernetes takes a name once: however often a launch is repeated, by whichever server,
there is one Job. What comes back is told by the watch of Jobs and pods (`reflector`), read by `diagnosis`; that there is
none of a name is believed only when the API, asked for this very Job, says so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import OrderedDict, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import structlog

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, NotSent, Refusal
from queue_manager.server.adapters.kubernetes.denials import Denials
from queue_manager.server.adapters.kubernetes.diagnosis import (
    JOB_NAME_LABEL,
    LOOK_FOR_PODS,
    PATIENT,
    RUNNER,
    Patience,
    ended_by_us,
    hash_of,
    is_explained,
    job_of,
    key_of,
    standing,
)
from queue_manager.server.adapters.kubernetes.objects import KubernetesJob, Listed, Pod
from queue_manager.server.adapters.kubernetes.options import DEFAULT_OPTIONS, PodOptions
from queue_manager.server.adapters.kubernetes.permissions import Permissions
from queue_manager.server.adapters.kubernetes.reflector import Observe, Reflector
from queue_manager.server.application.ports import Clock, Wake
from queue_manager.server.domain.errors import Declined, Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Reason, StateReason, cut
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus

log = structlog.get_logger(__name__)

T = TypeVar("T")

LAUNCH_SETTLE: Final = 60.0
"""Seconds after which a POST that was sent can no longer take effect: an API server gives up a request after 60 s
(`--request-timeout`), also one that it has accepted and not begun."""

LOOK_AT_MOST: Final = 60.0
"""Seconds after which a Job without a pod is looked at again at the latest."""

SYNC_WAIT: Final = 10.0
"""Seconds to wait for the first list of Jobs."""

NEVER_ACCEPTED: Final = frozenset({400, 404, 422})
"""Answers to a create that repeating it does not change."""

AS_IT_IS: Final = {"fieldValidation": "Ignore"}
"""A Job that we make has no unknown fields; to look for them costs the API."""

MUTATIONS: Final = 64
"""Calls that change something and go on at the same time."""

ENDS_KEPT: Final = 10_000
"""Ends of workers that are remembered although their Jobs are gone."""


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
        observe: Observe = lambda *_: None,
    ) -> None:
        """`secret`: the Secret with the platform's secrets. `options`: by target; others have the defaults."""
        self._api = api
        self._secret = secret
        self._options = options or {}
        self._clock = clock
        self._patience = patience
        self._start_allowance = start_allowance
        self._jobs = Reflector(
            api, "jobs", KubernetesJob, manifest.SELECTOR, changed=self._job_changed, rng=rng, observe=observe
        )
        self._pods = Reflector(api, "pods", Pod, manifest.SELECTOR, changed=self._pod_changed, rng=rng, observe=observe)
        self._pods_of: defaultdict[str, dict[str, Pod]] = defaultdict(dict)
        """By the Job's name, then the pod's. Pods that have gone stay while their Job is there."""
        self._deleted: set[str] = set()
        """Uids of the Jobs that we are deleting."""
        self._cut_off: set[str] = set()
        """Names of the Jobs whose pods were seen to be deleted while they ran."""
        self._leaving: dict[str, KubernetesJob] = {}
        """Jobs that we deleted, and that are gone before the watch has told how their pods ended, by name."""
        self._ends: OrderedDict[str, WorkerStatus] = OrderedDict()
        """How workers ended that we deleted, by name."""
        self._launches: dict[str, asyncio.Task[WorkerStatus | Refused]] = {}
        self._troubles: dict[str, tuple[Reason | None, float]] = {}
        """What workers wait for that may not come, and since when, by name."""
        self._permissions = Permissions(api)
        self._denials = Denials(api)
        self._mutations = asyncio.Semaphore(MUTATIONS)
        self._wake: Wake = lambda _queue_id, _delay=0.0: None
        self._running = AsyncExitStack()
        self._job = msgspec.json.Decoder(KubernetesJob)
        self._pod_list: msgspec.json.Decoder[Listed[Pod]] = msgspec.json.Decoder(Listed[Pod])

    async def __aenter__(self) -> Self:
        watching = [
            asyncio.create_task(reflector.run(), name=f"watch {what}")
            for what, reflector in (("jobs", self._jobs), ("pods", self._pods))
        ]
        for task in watching:
            self._running.push_async_callback(_cancelled, task)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._launches:
            await asyncio.wait(self._launches.values())
        await self._running.aclose()

    # --- the port ---

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`. Calls of the same name join; a call that is cancelled goes on by itself."""
        name = spec.key.name
        task = self._launches.get(name)
        if task is None:
            task = self._launches[name] = asyncio.create_task(self._launch(spec), name=f"launch {name}")
            task.add_done_callback(lambda _: self._launches.pop(name, None))
        return await asyncio.shield(task)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """See `ports.Runner`: each Job is created for show (`dryRun`), and no unknown field is passed over."""
        refusals = await asyncio.gather(*(self._rehearse(spec) for spec in specs))
        return [refused for refused in refusals if refused is not None]

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See `ports.Runner`."""
        await self._synced()
        under_way = [task for key in workers if (task := self._launches.get(key.name)) is not None]
        if under_way:
            await asyncio.wait(under_way)
        return await asyncio.gather(*(self._observe(key) for key in workers))

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`. The least grace that Kubernetes has is a second.

        The pods go first, each with the grace that is asked for here: those that the Job takes with it would have their
        own. Nothing comes after them, because a Job of ours makes one pod.
        """
        if (launching := self._launches.get(worker.name)) is not None:
            await asyncio.wait([launching])
        job = self._jobs.objects.get(worker.name) or await self._get(worker.name)
        if job is not None:
            if job.ending is not None:
                return
            self._deleted.add(job.metadata.uid)
        seconds = max(1, math.ceil(grace))
        for pod in await self._list_pods(worker.name):
            left = pod.metadata.deletion_grace_period_seconds
            if not pod.over and (left is None or left > seconds):
                await self._remove("pods", pod.metadata.name, pod.metadata.uid, gracePeriodSeconds=seconds)
        if job is not None and job.metadata.deletion_timestamp is None:
            await self._remove("jobs", worker.name, job.metadata.uid, propagationPolicy="Foreground")

    async def release(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`. Kubernetes removes them an hour later."""
        recorded = {
            "metadata": {"annotations": {manifest.RECORDED: "true"}},
            "spec": {"ttlSecondsAfterFinished": manifest.KEPT_RECORDED},
        }
        ours = [worker for worker in workers if worker.name in self._jobs.objects]
        await asyncio.gather(*(self._patch(worker, recorded) for worker in ours))

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`. A worker that still runs is left as it is."""
        for worker in workers:
            self._ends.pop(worker.name, None)
            job = await self._get(worker.name)
            if job is None or not hash_of(worker, job):  # somebody else's is none of ours
                continue
            if job.ending is None:
                log.warning("a worker that is to be forgotten still runs", worker=worker.name)
                continue
            await self._remove("jobs", worker.name, job.metadata.uid, propagationPolicy="Background")
            self._jobs.drop(worker.name)

    async def alive(self) -> Sequence[WorkerKey]:
        """See `ports.Runner`. Also pods whose Job is gone, if somebody deleted it without them.

        Not those that are being deleted already, with whatever grace they were given.
        """
        await self._synced()
        jobs = self._jobs.objects
        alone = (pod for pod in self._pods.objects.values() if not pod.over and job_of(pod) not in jobs)
        found = [(name, job.metadata) for name, job in jobs.items() if job.ending is None]
        found += [(job_of(pod), pod.metadata) for pod in alone]
        return [key_of(metadata, name) for name, metadata in found if name and metadata.deletion_timestamp is None]

    def subscribe(self, wake: Wake) -> None:
        """See `ports.Runner`."""
        self._wake = wake

    async def check(self) -> None:
        """See `ports.Runner`."""
        if missing := await self._permissions.missing():
            raise Unavailable(
                f"not allowed in namespace {self._api.namespace}: {', '.join(missing)}; "
                "give the server's account a Role with that (docs/kubernetes.md)"
            )
        await self._synced()
        if self._api.silent:
            await self._knock()
        for what, problem in (("jobs", self._jobs.problem), ("pods", self._pods.problem)):
            if problem:
                raise Unavailable(f"{what} of namespace {self._api.namespace} cannot be watched: {problem}")

    async def _knock(self) -> None:
        """Whether the API answers now, whatever it says. Raises `Unavailable`."""
        with suppress(Refusal):
            try:
                await self._api.call("list", "jobs", query={"limit": "1"})
            except NoAnswer as error:
                raise Unavailable(f"Kubernetes does not answer: {error}") from error

    def watch_ages(self) -> Mapping[str, float]:
        """By resource: seconds since its watch last said anything."""
        return {"jobs": self._jobs.age, "pods": self._pods.age}

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
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        try:
            async with self._mutations:
                await self._api.call("create", "jobs", body=self._manifest(spec), query=query, metadata_only=True)
        except Refusal as refusal:
            return _refused(spec.key, refusal, final={*NEVER_ACCEPTED, 403})  # a quota, a rule, a missing right
        except NoAnswer as error:
            raise Unavailable(str(error)) from error
        return None

    async def _launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        try:
            async with self._mutations:
                made = await self._ask(
                    self._job, "create", "jobs", body=self._manifest(spec), query=AS_IT_IS, metadata_only=True
                )
        except Refusal as refusal:
            if refusal.code == 409 and refusal.reason == "AlreadyExists":
                return await self._adopt(spec.key)
            return _refused(spec.key, refusal, final=NEVER_ACCEPTED)
        except NotSent as error:
            raise Declined(str(error)) from error
        except NoAnswer as error:  # whether it was made is seen by looking, before it is tried again
            raise Unavailable(f"whether Job {spec.key.name} was created cannot be said yet: {error}") from error
        self._jobs.put(made)
        if spec.key.name in self._pods_of:
            return await self._explained(spec.key, made)
        self._wake(spec.key.queue_id, LOOK_FOR_PODS)
        return standing(spec.key, made, ())[0]

    async def _adopt(self, key: WorkerKey) -> WorkerStatus:
        """What there is of that name, whoever made it."""
        job = await self._get(key.name)
        if job is None:
            raise Unavailable(f"whether Job {key.name} was created cannot be said yet")
        return await self._explained(key, job)

    # --- looking ---

    async def _observe(self, key: WorkerKey) -> WorkerStatus:
        job = self._jobs.objects.get(key.name)
        if job is None and (end := self._ends.get(key.name)) is not None:
            return end
        job = job or await self._get(key.name)
        return WorkerStatus(key=key, phase=Phase.ABSENT) if job is None else await self._explained(key, job)

    async def _explained(self, key: WorkerKey, job: KubernetesJob) -> WorkerStatus:
        """How it stands; where it has ended and its pod's end has not come over the watch yet, the pod is asked for."""
        now, created = self._clock.now(), job.metadata.creation_timestamp
        age = now - created.timestamp() if created is not None else 0.0
        pods, kept_out = self._pods_of.get(key.name, {}), None
        if job.ending is not None:
            if not is_explained(pods.values()):
                pods = await self._fresh_pods(key.name)
        elif not pods and age >= LOOK_FOR_PODS:
            if self._pods.problem:  # else the watch would have told of one
                pods = await self._fresh_pods(key.name)
            kept_out = None if pods else await self._denials.of(job.metadata.uid)
        status, patience = standing(
            key, job, pods.values(), cut_off=key.name in self._cut_off, kept_out=kept_out, patience=self._patience
        )
        until = self._until(key.name, status, patience, now)
        if until is not None and until <= now:
            # It will be deleted for that: so not on what the watch may have told long ago.
            pods = await self._fresh_pods(key.name)
            kept_out = None if pods else kept_out
            status, patience = standing(key, job, pods.values(), kept_out=kept_out, patience=self._patience)
            until = self._until(key.name, status, patience, now)
        look_in = None if until is None else max(0.0, until - now)
        if status.phase is Phase.WAITING and not pods:
            look_in = min(max(LOOK_FOR_PODS, age / 2), LOOK_AT_MOST) if look_in is None else min(LOOK_FOR_PODS, look_in)
        hopeless = until is not None and until <= now
        if look_in is not None and not hopeless:
            self._wake(key.queue_id, look_in)
        return dataclasses.replace(status, hopeless=True) if hopeless else status

    async def _fresh_pods(self, name: str) -> dict[str, Pod]:
        """The pods of a Job, asked afresh, and kept while there is a Job."""
        pods = {pod.metadata.name: pod for pod in await self._list_pods(name)}
        if not pods or name not in self._jobs.objects:
            return pods
        for pod in pods.values():
            self._keep(name, pod)
        return self._pods_of[name]

    def _keep(self, job_name: str, pod: Pod) -> None:
        """Keep a pod as it is, unless it is known in a newer form: the watch may overtake an answer, and the other way."""
        pods, name = self._pods_of[job_name], pod.metadata.name
        if name not in pods or pods[name].metadata.version <= pod.metadata.version:
            pods[name] = pod

    def _until(self, name: str, status: WorkerStatus, patience: float | None, now: float) -> float | None:
        """When a worker has waited too long for what it waits for; counted from when that was seen first."""
        if status.reason is None or patience is None or status.phase is not Phase.WAITING:
            self._troubles.pop(name, None)
            return None
        code, since = self._troubles.get(name, (None, now))
        if code is not status.reason.code:
            since = now
        self._troubles[name] = status.reason.code, since
        return since + patience

    async def _get(self, name: str) -> KubernetesJob | None:
        """The Job, asked afresh."""
        with _needed(f"get job {name}"):
            try:
                job = await self._ask(self._job, "get", "jobs", name)
            except Refusal as refusal:
                if refusal.code == 404 and refusal.reason == "NotFound":
                    self._jobs.drop(name)
                    return None
                raise
        self._jobs.put(job)
        return job

    async def _list_pods(self, job_name: str) -> Sequence[Pod]:
        """The pods of a Job, asked afresh."""
        query = {"labelSelector": f"{JOB_NAME_LABEL}={job_name}"}
        with _needed(f"list pods of {job_name}"):
            return (await self._ask(self._pod_list, "list", "pods", query=query)).items

    async def _synced(self) -> None:
        """Once the Jobs and pods that there are have been listed. Raises `Unavailable`."""
        if self._jobs.synced.is_set() and self._pods.synced.is_set():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_WAIT):
                await self._jobs.tried.wait()
                await self._pods.tried.wait()
        if not (self._jobs.synced.is_set() and self._pods.synced.is_set()):
            why = self._jobs.problem or self._pods.problem or "the API has not answered yet"
            raise Unavailable(f"namespace {self._api.namespace} has not been listed: {why}")

    async def _ask(self, decoder: msgspec.json.Decoder[T], verb: str, resource: str, name: str = "", **more: Any) -> T:
        """What a call answers. An answer that is none of Kubernetes', but some proxy's, says nothing."""
        raw = await self._api.call(verb, resource, name, **more)
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise NoAnswer(f"{verb} {resource}: the answer is not Kubernetes': {error}") from error

    # --- changing ---

    async def _remove(self, resource: str, name: str, uid: str, **options: Any) -> None:
        """Delete this very object; one that is gone, or has made way for another of its name, is none of ours."""
        body = {"preconditions": {"uid": uid}, **options}
        with _needed(f"delete {resource} {name}", but={404, 409}):
            async with self._mutations:
                await self._api.call("delete", resource, name, body=body)

    async def _patch(self, worker: WorkerKey, body: Mapping[str, Any]) -> None:
        with _needed(f"patch job {worker.name}", but={404}):
            async with self._mutations:
                await self._api.call("patch", "jobs", worker.name, body=body)

    # --- what the watch brings ---

    def _job_changed(self, job: KubernetesJob) -> None:
        name, uid = job.metadata.name, job.metadata.uid
        if name not in self._jobs.objects:
            self._troubles.pop(name, None)
            self._cut_off.discard(name)
            pods = self._pods_of.pop(name, {})
            if uid in self._deleted:
                self._deleted.discard(uid)
                if not self._remember(job, pods.values()) and any(pod in self._pods.objects for pod in pods):
                    self._leaving[name] = job
        self._wake((job.metadata.labels or {}).get(manifest.QUEUE_ID, ""))

    def _pod_changed(self, pod: Pod) -> None:
        labels = pod.metadata.labels or {}
        job_name, is_there = job_of(pod), pod.metadata.name in self._pods.objects
        if (job := self._leaving.get(job_name)) is not None:
            if self._remember(job, [pod]) or not is_there:
                del self._leaving[job_name]
        elif is_there or job_name in self._jobs.objects:
            self._keep(job_name, pod)
            if pod.metadata.deletion_timestamp is not None and pod.container(manifest.CONTAINER).running is not None:
                self._cut_off.add(job_name)
        else:
            self._pods_of.pop(job_name, None)
        self._wake(labels.get(manifest.QUEUE_ID, ""))

    def _remember(self, job: KubernetesJob, pods: Iterable[Pod]) -> bool:
        """How a worker ended that we deleted. Whether its pods say so."""
        key = key_of(job.metadata, job.metadata.name)
        if (end := ended_by_us(key, job, pods)) is None:
            return False
        self._ends[key.name] = end
        if len(self._ends) > ENDS_KEPT:
            self._ends.popitem(last=False)
        return True


@contextmanager
def _needed(what: str, *, but: Container[int] = ()) -> Iterator[None]:
    """What is refused or not answered inside is `Unavailable`; a refusal with one of the codes in `but` is passed over."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code not in but:
            raise _unavailable(what, refusal) from refusal
    except NoAnswer as error:
        raise Unavailable(str(error)) from error


def _refused(key: WorkerKey, refusal: Refusal, *, final: Container[int]) -> Refused:
    """What will never be accepted, as these codes mean it; what may be later is raised as `Unavailable`."""
    if refusal.code in final and refusal.reason:  # Kubernetes' own word, no proxy's
        text = f"Kubernetes refuses its Job: {refusal.message}"
        return Refused(key, StateReason(code=Reason.CONFIG_ERROR, message=cut(text)))
    if refusal.code in {401, 403, 429}:
        raise Declined(f"create jobs: {refusal}", retry_after=refusal.retry_after)
    raise _unavailable("create jobs", refusal)


def _unavailable(what: str, refusal: Refusal) -> Unavailable:
    return Unavailable(f"{what}: {refusal}", retry_after=refusal.retry_after)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
