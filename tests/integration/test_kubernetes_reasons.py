"""Each way in which a worker can fail to run, provoked on a real node: what its job then says, where, and how soon.

Where: to those who watch the queue, in its history, and in its record (see `followed`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from kubernetes_asyncio.client import (
    BatchV1Api,
    CoreV1Api,
    SchedulingV1Api,
    V1Eviction,
    V1Namespace,
    V1ObjectMeta,
    V1PriorityClass,
    V1ResourceQuota,
    V1ResourceQuotaSpec,
    V1Secret,
)

from queue_manager.server.adapters.kubernetes.api import Api
from queue_manager.server.adapters.kubernetes.diagnosis import LOOK_FOR_PODS, Patience
from queue_manager.server.adapters.kubernetes.objects import JOB_NAME_LABEL
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.workers import ASK_AGAIN
from queue_manager.server.application.core import Core
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import (
    DependencyCondition,
    JobState,
    Lifetime,
    Queue,
    Reads,
    Reason,
    StopMode,
)
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest
from tests.support.followed import Followed, followed, said
from tests.support.kubernetes import (
    SECRET,
    begun,
    cluster,
    core_api,
    manager,
    needs_cluster,
    target,
    unfinished_pods,
    until_all,
    until_none_runs,
)
from tests.support.local_workers import until

pytestmark = [pytest.mark.integration, needs_cluster]

SLEEP = "exec sleep 300"
HASTY = Patience(pull=2.0, configure=2.0, schedule=2.0, admit=2.0)
MARGIN = 15.0
"""Seconds that a slow node may need beyond all graces: for a pod, for its end, and for what is told of either."""
DEADLINE = 3
"""Seconds that Kubernetes lets a Job be active."""

CALLS: list[tuple[str, str]] = []
"""Every call of the API, verb and resource, that the managers of these tests have made."""

TARGETS = Catalogue.of(
    [
        target("no-such-image", SLEEP, image="localhost/none:1"),
        target("never-pulled", SLEEP, image="localhost/none:1"),
        target("no-image-name", SLEEP, image="localhost/UPPER:1"),
        target("no-such-secret", SLEEP, secret_environment={"TOKEN": "unheard-of"}),
        target("no-volume", SLEEP),
        target("no-node", SLEEP),
        target("late", SLEEP),
        target("late-and-polite", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        target("hungry", "tail /dev/zero"),
        target("failing", "echo first; echo the last word; exit 3"),
        target("no-command", SLEEP),
        target("sleeper", SLEEP),
        target("polite", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        target("done", "exit 0"),
        target("root", SLEEP),
        target("feeder", "exit 0", feeds=True),
        target("reader", SLEEP, lifetime=Lifetime.DRAINS, reads=Reads.OWN, consumer_group="readers-{queue_id}"),
    ]
)
OPTIONS = {
    "root": PodOptions(
        patch={"spec": {"template": {"spec": {"securityContext": {"runAsNonRoot": False, "runAsUser": 0}}}}}
    ),
    "never-pulled": PodOptions(image_pull_policy="Never"),
    "no-volume": PodOptions(
        volumes=[{"name": "ca", "secret": {"secretName": "unheard-of"}}],
        volume_mounts=[{"name": "ca", "mountPath": "/ca"}],
    ),
    "no-node": PodOptions(node_selector={"no": "node"}),
    "late": PodOptions(patch={"spec": {"activeDeadlineSeconds": DEADLINE}}),
    "late-and-polite": PodOptions(patch={"spec": {"activeDeadlineSeconds": DEADLINE}}),
    "hungry": PodOptions(requests={"memory": "16Mi"}, limits={"memory": "16Mi"}),
    "no-command": PodOptions(
        patch={"spec": {"template": {"spec": {"containers": [{"name": "worker", "command": ["/no/such/file"]}]}}}}
    ),
}


@pytest.fixture
async def core(namespace: str, tmp_path: Path) -> AsyncIterator[Core]:
    """A manager that loses its patience soon."""
    observe = lambda verb, resource, *_: CALLS.append((verb, resource))  # noqa: E731
    async with manager(namespace, tmp_path, TARGETS, OPTIONS, HASTY, observe=observe) as opened:
        yield opened


@pytest.fixture
async def priority() -> AsyncIterator[str]:
    """A priority class above what workers have."""
    async with cluster() as client:
        scheduling = SchedulingV1Api(client)
        made = V1PriorityClass(metadata=V1ObjectMeta(generate_name="qm-test-"), value=1000)
        name = (await scheduling.create_priority_class(made)).metadata.name
        yield name
        await scheduling.delete_priority_class(name)


async def ended(core: Core, queue_id: str) -> Queue:
    """The queue once it has ended, and those who watch it know."""
    async with followed(core, queue_id) as told:
        return await told.ended()


@dataclass(frozen=True)
class End:
    """How a job is to end."""

    state: JobState
    code: Reason
    words: str
    wait: float | None = None
    """Seconds for which it says so before it is given up; None: it ends at once."""
    after: float = 0.0
    """Seconds that have to pass before there is anything to say."""

    def check(self, told: Followed, job: str) -> None:
        """Fail where watchers were told something else, or told it too late, or not while it waited."""
        *_, last = words = told.words[job]
        assert (last.state, last.code) == (self.state, self.code), last
        assert self.words in last.message, last
        first = next(word for word in words if word.code is self.code)
        assert self.after - 1 <= first.after <= self.after + MARGIN, words
        if self.wait is not None:
            assert first.state is JobState.STARTING, words
            assert self.words in first.message, first
            assert self.wait - 1 <= last.after - first.after <= self.wait + MARGIN, words


UNHEARD_OF = 'secret "unheard-of" not found'
EXPECTED = {
    "no-such-image": End(JobState.FAILED, Reason.IMAGE_PULL_FAILED, "localhost/none:1", wait=HASTY.pull),
    "never-pulled": End(JobState.FAILED, Reason.IMAGE_PULL_FAILED, "ErrImageNeverPull"),
    "no-image-name": End(JobState.FAILED, Reason.IMAGE_PULL_FAILED, "InvalidImageName"),
    "no-such-secret": End(JobState.FAILED, Reason.CONFIG_ERROR, "unheard-of", wait=HASTY.configure),
    "no-volume": End(JobState.FAILED, Reason.CONFIG_ERROR, UNHEARD_OF, wait=HASTY.configure, after=LOOK_FOR_PODS),
    "no-node": End(
        JobState.FAILED, Reason.UNSCHEDULABLE, "didn't match Pod's node affinity/selector", wait=HASTY.schedule
    ),
    "hungry": End(JobState.FAILED, Reason.OOM_KILLED, "memory"),
    "failing": End(JobState.FAILED, Reason.EXIT_CODE, "exit code 3; the end of its log: first\nthe last word"),
    "no-command": End(JobState.FAILED, Reason.CONFIG_ERROR, "/no/such/file"),
    "done": End(JobState.FINISHED, Reason.NEVER_REPORTED, "exited with code 0"),
    "late": End(JobState.FAILED, Reason.DEADLINE_EXCEEDED, "active longer", after=DEADLINE),
    "late-and-polite": End(JobState.FAILED, Reason.DEADLINE_EXCEEDED, "active longer", after=DEADLINE),
}
"""Of one who waits for its own deadline Kubernetes itself makes an end, also where the worker then exits with 0."""


async def test_each_job_says_why_its_worker_did_not_make_it(core: Core, namespace: str) -> None:
    """In one queue, side by side; and nothing of them is left that could still run."""
    async with followed(core, await begun(core, *EXPECTED)) as told:
        await told.ended()
    for job, end in EXPECTED.items():
        end.check(told, job)
    assert await unfinished_pods(namespace) == []


@pytest.mark.parametrize("name", ["no-such-image", "never-pulled", "no-image-name", "no-such-secret", "no-volume"])
async def test_a_worker_that_never_ran_was_never_running_and_opens_no_gate(core: Core, name: str) -> None:
    """Neither while it waits nor when it is given up; a job that waits for its start is not launched."""
    after = JobRequest(
        target="sleeper", type="run", depends_on=[DependencyRequest(job=name, condition=DependencyCondition.STARTED)]
    )
    request = StartRequest(symbol="BTCUSDT", requests=[JobRequest(target=name, type="run"), after])
    queue_id = (await core.service.start(request, requested_by="tests")).queue.queue_id
    async with followed(core, queue_id) as told:
        await told.until(lambda: any(word.state is JobState.FAILED for word in told.words[name]))
    queue = await core.service.get(queue_id)
    assert JobState.RUNNING not in {word.state for word in told.words[name]}
    assert (queue.jobs[0].status.start_time, queue.jobs[0].status.exit_code) == (None, None)
    assert queue.jobs[1].status.state is JobState.SKIPPED


async def test_a_timeout_that_the_request_sets_is_named(core: Core) -> None:
    """The manager ends the worker itself, long before Kubernetes would."""
    request = StartRequest(symbol="BTCUSDT", requests=[JobRequest(target="sleeper", type="run", timeout=2.0)])
    queue_id = (await core.service.start(request, requested_by="tests")).queue.queue_id
    async with followed(core, queue_id) as told:
        await told.ended()
    runs, over = told.words["sleeper"][-2:]
    assert (runs.state, runs.code) == (JobState.RUNNING, None)
    assert over.said == (JobState.FAILED, Reason.DEADLINE_EXCEEDED, "it ran longer than its timeout of 2 s")
    assert 1.0 <= over.after - runs.after <= 2.0 + MARGIN


MISSING = f'secret "{SECRET}" not found'


async def test_a_secret_that_there_is_not_is_named(core: Core, namespace: str) -> None:
    """The whole Secret that secrets are taken from, not only a key of it."""
    async with core_api() as api:
        await api.delete_namespaced_secret(SECRET, namespace)
    async with followed(core, await begun(core, "no-such-secret")) as told:
        await told.ended()
    End(JobState.FAILED, Reason.CONFIG_ERROR, MISSING, wait=HASTY.configure).check(told, "no-such-secret")


async def test_a_secret_that_is_made_while_a_worker_waits_for_it_is_good_enough(namespace: str, tmp_path: Path) -> None:
    """The job says what it waits for until then, and nothing of it any more once it runs."""
    async with manager(namespace, tmp_path, TARGETS, OPTIONS) as core, core_api() as api:
        await api.delete_namespaced_secret(SECRET, namespace)
        async with followed(core, await begun(core, "no-such-secret")) as told:
            waits = await told.word("no-such-secret", JobState.STARTING, Reason.CONFIG_ERROR)
            assert MISSING in waits.message
            made = V1Secret(metadata=V1ObjectMeta(name=SECRET), string_data={"unheard-of": "heard of"})
            await api.create_namespaced_secret(namespace, made)
            await told.word("no-such-secret", JobState.RUNNING, None, within=100)


@pytest.mark.parametrize(("name", "state"), [("sleeper", JobState.FAILED), ("polite", JobState.LOST)])
async def test_an_eviction_is_no_success_and_starts_no_second_worker(
    core: Core, namespace: str, name: str, state: JobState
) -> None:
    """A drained node, a preemption: the disruption is named, also where the worker exits with 0 when it is told to."""
    queue_id = await begun(core, name)
    await until_all(core, queue_id, JobState.RUNNING)
    async with core_api() as api:
        (pod,) = (await api.list_namespaced_pod(namespace)).items
        body = V1Eviction(metadata=V1ObjectMeta(name=pod.metadata.name, namespace=namespace))
        await api.create_namespaced_pod_eviction(pod.metadata.name, namespace, body)
        queue = await ended(core, queue_id)
        assert said(queue.jobs[0])[:2] == (state, Reason.EVICTED), said(queue.jobs[0])
        assert "EvictionByEvictionAPI" in said(queue.jobs[0])[2]
        assert len({p.metadata.uid for p in (await api.list_namespaced_pod(namespace)).items} | {pod.metadata.uid}) == 1


async def test_a_rule_of_the_namespace_that_keeps_a_pod_out_is_named(core: Core, namespace: str) -> None:
    """Pod Security, in its own words; the Job itself is accepted."""
    async with core_api() as api:
        await api.patch_namespace(
            namespace, V1Namespace(metadata=V1ObjectMeta(labels={"pod-security.kubernetes.io/enforce": "restricted"}))
        )
    async with followed(core, await begun(core, "root")) as told:
        await told.ended()
    words = 'violates PodSecurity "restricted:latest": runAsNonRoot'
    End(JobState.FAILED, Reason.CONFIG_ERROR, words, wait=HASTY.admit, after=LOOK_FOR_PODS).check(told, "root")


async def test_a_preemption_is_named(namespace: str, tmp_path: Path, priority: str) -> None:
    """A worker of more importance needs the room."""
    async with core_api() as api:
        (node,) = (await api.list_node()).items
    room = node.status.allocatable["cpu"]
    most = {"cpu": f"{(int(room[:-1]) if room.endswith('m') else 1000 * int(room)) * 6 // 10}m"}
    options = {
        "sleeper": PodOptions(requests=most, limits={}),
        "done": PodOptions(
            requests=most, limits={}, patch={"spec": {"template": {"spec": {"priorityClassName": priority}}}}
        ),
    }
    async with manager(namespace, tmp_path, TARGETS, options) as core:
        victim = await begun(core, "sleeper")
        await until_all(core, victim, JobState.RUNNING)
        await until_all(core, await begun(core, "done"), JobState.FINISHED)
        queue = await ended(core, victim)
        assert said(queue.jobs[0])[:2] == (JobState.FAILED, Reason.EVICTED), said(queue.jobs[0])
        assert "PreemptionByScheduler" in said(queue.jobs[0])[2]


async def test_workers_that_are_ended_in_the_very_second_of_the_decision_have_not_ended_by_themselves(
    core: Core,
) -> None:
    """They have no handler for SIGTERM, so they fail of it; Kubernetes cuts the times of their ends to seconds."""
    drained = await ended(core, await begun(core, "feeder", "reader", "reader", "reader"))
    assert {said(job)[:2] for job in drained.jobs[1:]} == {(JobState.FINISHED, Reason.DRAINED)}, drained.jobs
    assert drained.status.state == "FINISHED"
    queue_id = await begun(core, *["sleeper"] * 6)
    await until_all(core, queue_id, JobState.RUNNING)
    await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
    stopped = await ended(core, queue_id)
    assert {said(job)[:2] for job in stopped.jobs} == {(JobState.STOPPED, Reason.STOPPED_BY_USER)}, stopped.jobs


async def test_a_job_that_somebody_else_deletes_is_lost(core: Core, namespace: str) -> None:
    """`kubectl delete job` behind the manager's back; the other worker goes on."""
    queue_id = await begun(core, "sleeper", "sleeper")
    await until_all(core, queue_id, JobState.RUNNING)
    queue = await core.service.get(queue_id)
    first = queue.jobs[0].status.runner
    assert first is not None
    async with followed(core, queue_id) as told:
        async with await Api.connect(namespace) as api:
            await api.call("delete", "jobs", first.name, body={"propagationPolicy": "Background"})
        await told.word("sleeper", JobState.LOST, Reason.JOB_DELETED_EXTERNALLY, within=MARGIN)
    jobs = (await core.service.get(queue_id)).jobs
    assert said(jobs[0])[:2] == (JobState.LOST, Reason.JOB_DELETED_EXTERNALLY)
    assert jobs[1].status.state is JobState.RUNNING


async def test_a_job_that_somebody_suspends_is_lost_and_does_not_come_back(core: Core, namespace: str) -> None:
    """Its pod is taken back; once it goes on again, which would be a second run, it is ended."""
    queue_id = await begun(core, "sleeper")
    await until_all(core, queue_id, JobState.RUNNING)
    runner = (await core.service.get(queue_id)).jobs[0].status.runner
    assert runner is not None
    async with cluster() as client:
        await BatchV1Api(client).patch_namespaced_job(runner.name, namespace, {"spec": {"suspend": True}})
    queue = await ended(core, queue_id)
    assert said(queue.jobs[0])[:2] == (JobState.LOST, Reason.EVICTED), said(queue.jobs[0])
    assert "suspended" in said(queue.jobs[0])[2]
    for _ in range(2):  # two looks must agree
        await core.strays.look()

    async def gone() -> bool:
        async with cluster() as client:
            pods = (await CoreV1Api(client).list_namespaced_pod(namespace)).items
            return not pods and not (await BatchV1Api(client).list_namespaced_job(namespace)).items

    await until(gone, within=60)  # the suspension has taken its pod; its Job goes once the collector has looked


async def test_a_stop_of_many_asks_for_each_deletion_once(core: Core, namespace: str) -> None:
    """However often the queue is looked at while they go."""
    queue_id = await begun(core, *["sleeper"] * 12)
    await until_all(core, queue_id, JobState.RUNNING)
    before, began = len(CALLS), monotonic()
    await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
    await ended(core, queue_id)
    made, asked_again = CALLS[before:], (monotonic() - began) // ASK_AGAIN
    assert made.count(("delete", "pods")) == 12
    assert made.count(("delete", "jobs")) == 12
    assert made.count(("list", "pods")) <= 12 * (2 + asked_again)  # to delete them, and for how they ended


async def test_a_pod_that_somebody_else_deletes_is_no_success(core: Core, namespace: str) -> None:
    """Though its worker exits with 0 when it is told to."""
    queue_id = await begun(core, "polite")
    await until_all(core, queue_id, JobState.RUNNING)
    async with core_api() as api:
        (pod,) = (await api.list_namespaced_pod(namespace)).items
        await api.delete_namespaced_pod(pod.metadata.name, namespace)
    queue = await ended(core, queue_id)
    assert said(queue.jobs[0])[:2] == (JobState.LOST, Reason.EVICTED), said(queue.jobs[0])


async def test_a_quota_that_half_a_queue_hits_is_waited_for_and_named(core: Core, namespace: str) -> None:
    """The jobs that are let in run; when there is room, the others do, too."""
    async with core_api() as api:
        quota = V1ResourceQuota(metadata=V1ObjectMeta(name="few"), spec=V1ResourceQuotaSpec(hard={"pods": "2"}))
        await api.create_namespaced_resource_quota(namespace, quota)

        async def counted() -> bool:
            status = (await api.read_namespaced_resource_quota("few", namespace)).status
            return bool(status.hard)

        await until(counted)
        queue_id = await begun(core, *["sleeper"] * 4)
        async with followed(core, queue_id) as told:

            def half_waits() -> bool:
                last = [(words[-1].state, words[-1].code) for words in told.words.values()]
                waits = last.count((JobState.STARTING, Reason.QUOTA_EXCEEDED))
                return waits == 2 and last.count((JobState.RUNNING, None)) == 2

            await told.until(half_waits, within=LOOK_FOR_PODS + MARGIN)
            assert sorted(said(job)[1] or "" for job in (await core.service.get(queue_id)).jobs) == [
                *("", ""),
                *(Reason.QUOTA_EXCEEDED, Reason.QUOTA_EXCEEDED),
            ]
            await api.delete_namespaced_resource_quota("few", namespace)
            await told.until(lambda: all(words[-1].state is JobState.RUNNING for words in told.words.values()))


@pytest.mark.parametrize("mode", [StopMode.GRACEFUL, StopMode.FORCE])
async def test_a_stop_leaves_no_pod_wherever_each_worker_is(core: Core, namespace: str, mode: StopMode) -> None:
    """One pulls, one has no node, one runs, one is about to be made, one has ended."""
    queue_id = await begun(core, "no-such-image", "no-node", "sleeper", "done", "hungry")
    if mode is StopMode.GRACEFUL:

        async def one_runs() -> bool:
            return (await core.service.get(queue_id)).jobs[2].status.state is JobState.RUNNING

        await until(one_runs)
    await core.service.stop(queue_id, mode=mode, grace_period=1.0, reason="", by="tests")
    queue = await ended(core, queue_id)
    assert queue.status.state == "STOPPED"
    assert queue.jobs[2].status.state is JobState.STOPPED
    await until_none_runs(namespace, JOB_NAME_LABEL)
