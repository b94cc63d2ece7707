"""What a worker's Job and its pods say of it, as the core's words.

Whether it is over is the Job's to say: its condition comes after the last pod has ended, and stays when pods are
collected. The pods say how it ended, whether it runs, and why it does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from queue_manager.server.adapters.kubernetes.manifest import (
    ATTEMPT,
    CONTAINER,
    JOB,
    MANAGED_BY,
    MANAGER,
    QUEUE_ID,
    SPEC_HASH,
)
from queue_manager.server.adapters.kubernetes.objects import (
    JOB_NAME_LABEL,
    Condition,
    ContainerState,
    Event,
    KubernetesJob,
    Metadata,
    Pod,
    Terminated,
)
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import Reason, RunnerRef, StateReason, cut
from queue_manager.server.domain.observation import Phase, WorkerStatus

RUNNER: Final = "kubernetes"

NEVER: Final = frozenset({"ErrImageNeverPull", "InvalidImageName"})
PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
CONTAINER_TROUBLE: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""What a container waits for that will not come by itself (kubelet's waiting reasons)."""

LOOK_FOR_PODS: Final = 5.0
"""Seconds after which a Job without a pod is looked at again: what keeps its pod out tells nobody."""

CANNOT_START: Final = frozenset({"StartError", "ContainerCannotRun"})
"""What a container ended of whose command could not be run."""


TIME_SLACK: Final = 2.0
"""Seconds by which a worker may have ended later than is said: Kubernetes cuts times to whole seconds, and a node's clock
may be a little behind. Else one that was just told to end would seem to have done so before, by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds that a worker may wait, by what it waits for, before it is given up."""

    pull: float = 180.0
    """For its image, from when it has a node: a registry that is restarted is back by then."""
    configure: float = 180.0
    """For what its container needs: a Secret or volume that somebody is just making."""
    schedule: float = 480.0
    """For a node: an autoscaler needs some minutes for a new one. Less than requests give it to start (ten minutes), so
    that a job that fails for want of a node says so."""
    admit: float = 60.0
    """To be let in, where a rule of the namespace keeps its pod out. A quota is waited for without end."""


PATIENT: Final = Patience()


@dataclass(frozen=True, slots=True)
class _Wait:
    """Why a worker waits, and for how many seconds it may (None: without end)."""

    reason: StateReason
    patience: float | None


def standing(
    key: WorkerKey,
    job: KubernetesJob,
    pods: Iterable[Pod],
    *,
    cut_off: bool = False,
    kept_out: Event | None = None,
    patience: Patience = PATIENT,
) -> tuple[WorkerStatus, float | None]:
    """How a worker stands, of which there is this Job, and these pods as far as they are known.

    `cut_off`: its pod was deleted while it ran. `kept_out`: the event that says why there is no pod, or why a pod is
    not prepared. The second answer is for how many seconds in all it may wait for what its reason says; None: without
    end, or it does not wait.
    """
    pod = max(pods, key=_created, default=None)
    state = pod.container(CONTAINER) if pod is not None else ContainerState()
    ref, spec_hash = _ref(job), hash_of(key, job)
    begun = state.running or state.terminated
    start_time = begun.start_time if begun is not None else None
    if (condition := job.ending) is not None:
        ended = state.terminated
        status = WorkerStatus(
            key=key,
            phase=Phase.ENDED,
            ref=ref,
            spec_hash=spec_hash,
            exit_code=None if _was_ended(pod, ended, cut_off=cut_off) else _exit_code(condition, ended),
            reason=_why_ended(condition, pod, ended, cut_off=cut_off),
            start_time=start_time,
            end_time=_latest(ended.end_time if ended else condition.since),
        )
        return status, None
    if job.suspended and state.running is None:
        why = _reason(Reason.EVICTED, "its Job was suspended, and the Queue Manager did not suspend it")
        return WorkerStatus(key=key, phase=Phase.ENDED, ref=ref, spec_hash=spec_hash, reason=why), None
    if begun is not None:  # one that has ended is over when its Job says so
        return WorkerStatus(key=key, phase=Phase.RUNNING, ref=ref, spec_hash=spec_hash, start_time=start_time), None
    wait = (
        _kept_out(kept_out, job, patience)
        if pod is None
        else _waiting(pod, state, patience) or _not_prepared(kept_out, patience)
    )
    status = WorkerStatus(
        key=key, phase=Phase.WAITING, ref=ref, spec_hash=spec_hash, reason=wait.reason if wait else None
    )
    return status, wait.patience if wait else None


def is_explained(pods: Iterable[Pod]) -> bool:
    """Whether these pods say how an ended Job's worker ended."""
    return any(pod.over or pod.container(CONTAINER).terminated is not None for pod in pods)


def ended_by_us(key: WorkerKey, job: KubernetesJob, pods: Iterable[Pod]) -> WorkerStatus | None:
    """How a worker ended whose Job was deleted with it, where a pod was seen to say so."""
    pod = max(pods, key=_created, default=None)
    terminated = pod.container(CONTAINER).terminated if pod is not None else None
    if terminated is None:
        return None
    return WorkerStatus(
        key=key,
        phase=Phase.ENDED,
        ref=_ref(job),
        spec_hash=hash_of(key, job),
        exit_code=terminated.exit_code,
        reason=_of_exit(terminated),
        start_time=terminated.start_time,
        end_time=_latest(terminated.end_time),
    )


def hash_of(key: WorkerKey, job: KubernetesJob) -> str:
    """The specification's hash, where the Job is this very attempt's; else empty: somebody else has the name."""
    labels = job.metadata.labels or {}
    own = {MANAGED_BY: MANAGER, QUEUE_ID: key.queue_id, JOB: key.job, ATTEMPT: str(key.attempt)}
    if any(labels.get(name) != value for name, value in own.items()):
        return ""
    return (job.metadata.annotations or {}).get(SPEC_HASH, "")


def key_of(metadata: Metadata, job_name: str) -> WorkerKey:
    """Whose Job or pod it is, as its labels say, which somebody may have changed."""
    labels = metadata.labels or {}
    attempt = labels.get(ATTEMPT, "")
    number = int(attempt) if attempt.isdecimal() else 0
    return WorkerKey(labels.get(QUEUE_ID, ""), labels.get(JOB, ""), number, job_name)


def job_of(pod: Pod) -> str:
    """The name of a pod's Job; empty where nothing says it."""
    return (pod.metadata.labels or {}).get(JOB_NAME_LABEL, "")


def _ref(job: KubernetesJob) -> RunnerRef:
    return RunnerRef(runner=RUNNER, name=job.metadata.name, uid=job.metadata.uid, namespace=job.metadata.namespace)


def _succeeded(condition: Condition) -> bool:
    return condition.type == "Complete"


def _exit_code(condition: Condition, ended: Terminated | None) -> int | None:
    """The worker's; None where its pod is gone and the Job does not say either."""
    if ended is not None and (ended.exit_code != 0 or _succeeded(condition)):
        return ended.exit_code
    return 0 if _succeeded(condition) else None


def _why_ended(condition: Condition, pod: Pod | None, ended: Terminated | None, *, cut_off: bool) -> StateReason | None:
    """What is to be said of an end beyond the exit code."""
    disruption = _disruption(pod)
    if condition.reason == "DeadlineExceeded":
        return _reason(Reason.DEADLINE_EXCEEDED, "its Job was active longer than its deadline allows")
    if disruption is not None:
        return _reason(Reason.EVICTED, f"{disruption.reason}: {disruption.message}")
    if _was_ended(pod, ended, cut_off=cut_off):
        return _reason(Reason.EVICTED, "its pod was deleted, and the Queue Manager did not delete it")
    if _succeeded(condition):
        return None
    if condition.reason == "PodFailurePolicy":
        return _reason(Reason.EVICTED, condition.message or "its pod was evicted")
    if pod is not None and pod.status.reason == "Evicted":
        return _reason(Reason.EVICTED, pod.status.message or "its pod was evicted")
    if ended is not None:
        return _of_exit(ended)
    failed = f"its Job has failed ({condition.reason}: {condition.message})"
    if pod is None:
        return _reason(Reason.JOB_FAILED, f"{failed}, its pod is gone")
    for status in pod.status.init_containers:
        if (before := status.state.terminated) is not None and before.exit_code != 0:
            said = (before.message or before.reason or "").strip()
            return _reason(
                Reason.CONFIG_ERROR, f"{status.name}, which runs before it, exited with {before.exit_code}: {said}"
            )
    said = pod.container(CONTAINER).unknown or f"{pod.status.reason}: {pod.status.message}"
    return _reason(Reason.JOB_FAILED, f"{failed}: {said}")


def _disruption(pod: Pod | None) -> Condition | None:
    """What disrupted a pod (an eviction, a preemption), if something did."""
    found = pod.condition("DisruptionTarget") if pod is not None else None
    return found if found is not None and found.status == "True" else None


def _was_ended(pod: Pod | None, ended: Terminated | None, *, cut_off: bool) -> bool:
    """Whether a worker that exited with 0 did so because its pod was evicted or deleted: its work was cut off."""
    return ended is not None and ended.exit_code == 0 and (cut_off or _disruption(pod) is not None)


def _of_exit(ended: Terminated) -> StateReason | None:
    """What is to be said of a container's end beyond its exit code."""
    said = ended.message.strip()
    if ended.reason == "OOMKilled":
        return _reason(Reason.OOM_KILLED, "it needed more memory than its limit allows; raise the target's limit")
    if ended.reason in CANNOT_START:
        return _reason(Reason.CONFIG_ERROR, f"its command cannot be run: {said or ended.reason}")
    if ended.exit_code != 0 and said:
        how = f"ended by signal {ended.exit_code - 128}" if ended.exit_code > 128 else f"exit code {ended.exit_code}"
        return _reason(Reason.EXIT_CODE, f"{how}; the end of its log: {said[-512:]}")
    return None


def _waiting(pod: Pod, state: ContainerState, patience: Patience) -> _Wait | None:
    """Why a pod does not run, where that is more than that it takes a moment."""
    scheduled = pod.condition("PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        reason = _reason(Reason.UNSCHEDULABLE, scheduled.message or "no node takes it")
        return _Wait(reason, patience.schedule)
    first = [status.state for status in pod.status.init_containers]
    for waiting in (state.waiting, *(before.waiting for before in first)):
        if waiting is None:
            continue
        text = f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason
        if waiting.reason in NEVER:
            return _Wait(_reason(Reason.IMAGE_PULL_FAILED, text), 0.0)
        if waiting.reason in PULLING:
            busy = "pull QPS exceeded" in text  # the node's own limit: its turn comes
            return _Wait(_reason(Reason.IMAGE_PULL_FAILED, text), None if busy else patience.pull)
        if waiting.reason in CONTAINER_TROUBLE:
            return _Wait(_reason(Reason.CONFIG_ERROR, text), patience.configure)
    return None


def _kept_out(event: Event | None, job: KubernetesJob, patience: Patience) -> _Wait | None:
    """Why a Job has no pod."""
    if event is None or job.status.active:
        return None
    if "exceeded quota" in event.message:
        return _Wait(_reason(Reason.QUOTA_EXCEEDED, event.message), None)
    passing = any(words in event.message for words in ("calling webhook", "Internal error", "timeout"))
    return _Wait(_reason(Reason.CONFIG_ERROR, event.message), None if passing else patience.admit)


def _latest(time: float | None) -> float | None:
    return None if time is None else time + TIME_SLACK


def _not_prepared(event: Event | None, patience: Patience) -> _Wait | None:
    """Why a pod that has a node does not get its volumes or its sandbox."""
    return None if event is None else _Wait(_reason(Reason.CONFIG_ERROR, event.message), patience.configure)


def _reason(code: Reason, message: str) -> StateReason:
    return StateReason(code=code, message=cut(message))


def _created(pod: Pod) -> float:
    return pod.metadata.creation_time or 0.0
