"""What the runner makes of answers and watches that overtake each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.api import Refusal
from queue_manager.server.adapters.kubernetes.diagnosis import Patience
from queue_manager.server.adapters.kubernetes.objects import JOB_NAME_LABEL, JOBS, PODS, Status
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.domain.errors import Declined, Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.observation import Phase, WorkerStatus
from queue_manager.wire import kubernetes_pb2 as wire
from tests.support.fake_kubernetes import encoded, listed
from tests.support.local_workers import WallClock

KEY = WorkerKey("wf-btcusdt-x-a1b2c3", "loader-producer", 1, "worker-a1")
LABELS = {
    manifest.MANAGED_BY: manifest.MANAGER,
    manifest.QUEUE_ID: KEY.queue_id,
    manifest.JOB: KEY.job,
    manifest.ATTEMPT: "1",
}


def a_launch() -> LaunchSpec:
    """What the worker is launched with."""
    return LaunchSpec(
        key=KEY, target=KEY.job, image="i", command=(), environment={}, secret_environment={}, spec_hash="h"
    )


def job_of_a_minute() -> dict[str, Any]:
    """The worker's Job, made a minute ago."""
    made = datetime.now(UTC) - timedelta(seconds=60)
    return {
        "metadata": {
            "name": KEY.name,
            "uid": "u",
            "labels": LABELS,
            "annotations": {manifest.SPEC_HASH: "h"},
            "creationTimestamp": made.isoformat(),
            "resourceVersion": "3",
        }
    }


def pod(version: int, *, runs: bool) -> dict[str, Any]:
    """The worker's pod."""
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if runs else {"waiting": {"reason": "ContainerCreating"}}
    return {
        "metadata": {
            "name": "worker-a1-pod",
            "resourceVersion": str(version),
            "labels": {**LABELS, JOB_NAME_LABEL: KEY.name},
        },
        "status": {"containerStatuses": [{"name": manifest.CONTAINER, "state": state}]},
    }


Objects = Sequence[Mapping[str, Any]]


def holding(api: Any, *, jobs: Objects = (), pods: Objects = ()) -> KubernetesRunner:
    """A runner that has listed these."""
    runner = KubernetesRunner(api, rng=Random(1), secret="none", clock=WallClock(), patience=Patience(admit=0.0))
    runner._workers.jobs.objects.update((job["metadata"]["name"], JOBS.read(encoded(wire.Job, job))) for job in jobs)
    runner._workers.pods.objects.update((pod["metadata"]["name"], PODS.read(encoded(wire.Pod, pod))) for pod in pods)
    for reflector in runner._workers.watching.values():
        reflector.synced.set()
    return runner


class SlowApi:
    """Its list of pods was made before the pod ran; the watch tells that it runs before the list has arrived."""

    namespace = "workers"
    runner: KubernetesRunner

    async def ask(self, read: Any, verb: str, resource: str, name: str = "", **_: object) -> Any:
        """Answer to a list of pods."""
        assert (verb, resource, name) == ("list", "pods", "")
        running = PODS.read(encoded(wire.Pod, pod(7, runs=True)))
        self.runner._workers.pods.objects[running.metadata.name] = running
        self.runner._workers._pod_changed(running)
        return read(listed(wire.PodList, [pod(5, runs=False)]))


async def test_an_old_answer_does_not_hide_what_the_watch_has_told_since() -> None:
    """Else the worker would be STARTING until its pod changes the next time."""
    api = SlowApi()
    runner = api.runner = holding(api, jobs=[job_of_a_minute()])
    runner._workers.pods.problem = "cut off a moment ago"
    assert [status.phase for status in await runner.observe([KEY])] == [Phase.RUNNING]
    assert [status.phase for status in await runner.observe([KEY])] == [Phase.RUNNING]


class LateApi:
    """Its watches have died without a word: there is a pod that runs by now, and an old event that says there is none."""

    namespace = "workers"

    async def ask(self, read: Any, verb: str, resource: str, name: str = "", **_: object) -> Any:
        """Answer a list."""
        assert (verb, name) == ("list", "")
        old = {
            "metadata": {"name": "e", "resourceVersion": "4"},
            "involvedObject": {"uid": "u"},
            "message": "forbidden",
        }
        items = {"pods": [pod(7, runs=True)], "events": [old]}
        return read(listed(wire.EventList if resource == "events" else wire.PodList, items[resource]))


async def test_a_worker_is_not_given_up_on_an_old_event() -> None:
    """Before it is deleted for having no pod, its pods are asked for."""
    runner = holding(LateApi(), jobs=[job_of_a_minute()])
    (status,) = await runner.observe([KEY])
    assert (status.phase, status.hopeless) == (Phase.RUNNING, False)


async def test_what_is_alive_has_a_name_and_is_not_being_deleted() -> None:
    """Jobs that are not over, and pods without a Job."""
    gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    jobs = [
        {"metadata": {"name": name, "uid": name, "labels": LABELS, **more}} for name, more in (("a", {}), ("b", gone))
    ]
    alone = pod(1, runs=True)
    nameless = {"metadata": {"name": "c", "labels": LABELS}}
    leaving = {"metadata": {"name": "d", "labels": {**LABELS, JOB_NAME_LABEL: "d"}, **gone}}
    of_a_job = {"metadata": {"name": "a-pod", "labels": {**LABELS, JOB_NAME_LABEL: "a"}}}
    runner = holding(None, jobs=jobs, pods=[alone, nameless, leaving, of_a_job])
    assert [key.name for key in await runner.alive()] == ["a", KEY.name]


class PromptWatch:
    """The watch tells of the Job that is being made before the create is answered, and of how it has ended."""

    namespace = "workers"
    runner: KubernetesRunner

    def __init__(self, *, ends: bool) -> None:
        """`ends`: the Job fails at once."""
        self.ends = ends

    async def ask(self, read: Any, verb: str, resource: str, name: str = "", **_: object) -> Any:
        """Answer a create, or a list of pods."""
        if resource == "pods":
            return read(listed(wire.PodList, []))
        assert (verb, resource) == ("create", "jobs")
        told = [made := {**job_of_a_minute()["metadata"], "creationTimestamp": datetime.now(UTC).isoformat()}]
        if self.ends:
            told.append({**made, "resourceVersion": "4"})
        for metadata in told:
            failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
            job = {"metadata": metadata, "status": failed if metadata["resourceVersion"] == "4" else {}}
            kind = "ADDED" if metadata is made else "MODIFIED"
            self.runner._workers.jobs._take_in(kind, encoded(wire.Job, job))
        return read(encoded(wire.Job, {"metadata": made}))


@pytest.mark.parametrize(("ends", "phase"), [(False, Phase.WAITING), (True, Phase.ENDED)])
async def test_of_a_job_that_is_being_made_its_launch_tells(ends: bool, phase: Phase) -> None:
    """Whatever the watch has said meanwhile; the queue is not looked at once more for that."""
    api = PromptWatch(ends=ends)
    runner = api.runner = holding(api)
    woken: list[str] = []
    runner.subscribe(lambda queue_id, delay=0.0: woken.append(queue_id) if not delay else None)
    answer = await runner.launch(a_launch())
    assert isinstance(answer, WorkerStatus)
    assert (answer.phase, woken) == (phase, [])


def scheduled(version: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's pod, on a node, with its container in a state."""
    found = pod(version, runs=True)
    status = {"containerStatuses": [{"name": manifest.CONTAINER, "state": state}]}
    return {**found, "status": {"conditions": [{"type": "PodScheduled", "status": "True"}], **status}}


class AskedApi:
    """Remembers what it is asked; `tell` is called first, and what it answers is what there is."""

    namespace = "workers"

    def __init__(self, **objects: Sequence[Mapping[str, Any]]) -> None:
        """By resource: what there is."""
        self.asked: list[str] = []
        self.objects = objects
        self.tell: Callable[[], None] = lambda: None

    async def ask(self, read: Any, verb: str, resource: str, name: str = "", **_: object) -> Any:
        """Answer a get or a list; or refuse a create, because there is one of that name."""
        self.asked.append(f"{verb} {resource}")
        if verb == "create":
            raise Refusal(409, Status(reason="AlreadyExists"))
        found = self.objects[resource]
        if name and not found:
            raise Refusal(404, Status(reason="NotFound"))
        if name:
            return read(encoded(wire.Job, found[0]))
        answer = listed(wire.EventList if resource == "events" else wire.PodList, found)
        self.tell()
        return read(answer)

    async def call(self, verb: str, resource: str, name: str = "", **_: object) -> bytes:
        """Delete or patch something."""
        self.asked.append(f"{verb} {resource}")
        return b""


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ({"running": {"startedAt": "2026-01-01T00:00:00Z"}}, []),
        ({"terminated": {"exitCode": 0}}, []),
        ({"waiting": {"reason": "ContainerCreating"}}, ["list events"] * 3),
    ],
)
async def test_events_are_asked_for_only_where_a_pod_is_being_prepared(
    state: Mapping[str, Any], asked: list[str]
) -> None:
    """Every look at a worker that runs would wait for the same list."""
    api = AskedApi(events=[])
    runner = holding(api, jobs=[job_of_a_minute()])
    runner._workers.pods.objects["worker-a1-pod"] = PODS.read(encoded(wire.Pod, scheduled(5, state)))
    runner._workers._pod_changed(runner._workers.pods.objects["worker-a1-pod"])
    await runner.observe([KEY])
    assert api.asked == asked


def completed() -> dict[str, Any]:
    """The worker's Job, once it has ended."""
    job = job_of_a_minute()
    condition = {"type": "Complete", "status": "True"}
    return {"metadata": {**job["metadata"], "resourceVersion": "9"}, "status": {"conditions": [condition]}}


async def test_what_is_told_while_a_launch_looks_is_in_its_answer() -> None:
    """The watch leaves telling to the launch, so nobody else would look before the next sweep."""
    api = AskedApi(jobs=[job_of_a_minute()], pods=[scheduled(8, {"terminated": {"exitCode": 0}})], events=[])
    runner = holding(api)
    jobs, pods = runner._workers.jobs, runner._workers.pods
    preparing = PODS.read(encoded(wire.Pod, scheduled(5, {"waiting": {"reason": "ContainerCreating"}})))
    pods.objects[preparing.metadata.name] = preparing
    runner._workers._pod_changed(preparing)
    api.tell = lambda: jobs._take_in("MODIFIED", encoded(wire.Job, completed()))
    answer = await runner.launch(a_launch())
    assert isinstance(answer, WorkerStatus)
    assert (answer.phase, answer.exit_code) == (Phase.ENDED, 0)


async def test_a_worker_that_has_ended_is_not_deleted_because_the_watch_is_silent() -> None:
    """How it ended would be lost: its pods say that it has, so its Job is asked for."""
    over = {**scheduled(8, {"terminated": {"exitCode": 0}})}
    over["status"] = {**over["status"], "phase": "Succeeded"}
    api = AskedApi(jobs=[completed()], pods=[over])
    runner = holding(api, jobs=[job_of_a_minute()])
    woken: list[str] = []
    runner.subscribe(lambda queue_id, delay=0.0: woken.append(queue_id))
    await runner.delete(KEY, grace=5)
    assert api.asked == ["list pods", "get jobs"]
    assert woken == [KEY.queue_id]
    (status,) = await runner.observe([KEY])
    assert (status.phase, status.exit_code) == (Phase.ENDED, 0)


async def test_a_worker_that_runs_is_deleted() -> None:
    """Its pod, then its Job."""
    api = AskedApi(jobs=[job_of_a_minute()], pods=[scheduled(8, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})])
    await holding(api, jobs=[job_of_a_minute()]).delete(KEY, grace=5)
    assert api.asked == ["list pods", "delete pods", "delete jobs"]


@pytest.mark.parametrize(
    ("job", "stopped", "asked"),
    [
        (completed(), False, ["patch jobs"]),
        (completed(), True, ["delete jobs"]),
        (job_of_a_minute(), True, []),
        ({**completed(), "metadata": {**completed()["metadata"], "labels": {}}}, True, []),
    ],
    ids=["it ended by itself", "it was stopped", "it still runs", "it is somebody else's"],
)
async def test_the_job_of_a_worker_that_was_stopped_goes_with_its_result(
    job: dict[str, Any], stopped: bool, asked: list[str]
) -> None:
    """It may have ended before it could be deleted. One that ended by itself is kept for an hour, with its log."""
    api = AskedApi()
    runner = holding(api, jobs=[job])
    for _ in range(2):  # the server may end in between
        await runner.release([KEY], stopped={KEY} if stopped else ())
    assert api.asked == (asked if stopped else asked * 2)


async def test_what_is_not_listed_yet_cannot_be_let_go() -> None:
    """Else it would stay there, and nobody would know of it."""
    runner = holding(AskedApi())
    for reflector in runner._workers.watching.values():
        reflector.synced.clear()
        reflector.tried.set()
    with pytest.raises(Unavailable, match="has not been listed"):
        await runner.release([KEY], stopped={KEY})


class OthersApi(AskedApi):
    """There is another Job of that name by now."""

    async def call(self, verb: str, resource: str, name: str = "", **_: object) -> bytes:
        """Refuse to delete one of another uid."""
        self.tell()
        raise Refusal(409, Status(reason="Conflict"))


async def test_a_newer_job_of_that_name_stays_known() -> None:
    """The one that was to be removed is not there any more."""
    newer = {"metadata": {**completed()["metadata"], "uid": "another", "resourceVersion": "12"}}
    api = OthersApi(jobs=[completed()])
    runner = holding(api)
    jobs = runner._workers.jobs
    api.tell = lambda: jobs._take_in("ADDED", encoded(wire.Job, newer))
    await runner.forget([KEY])
    assert jobs.objects[KEY.name].metadata.uid == "another"


async def test_a_worker_whose_pod_outlives_its_job_is_not_gone() -> None:
    """The garbage collector did not know the pod yet: it is asked for, deleted, and gone only when it is."""
    late = scheduled(8, {"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    api = AskedApi(jobs=[job_of_a_minute()], pods=[])
    runner = holding(api, jobs=[job_of_a_minute()])
    await runner.delete(KEY, grace=5)
    runner._workers.jobs._take_in("DELETED", encoded(wire.Job, job_of_a_minute()))
    api.objects = {"jobs": [], "pods": [late]}
    (status,) = await runner.observe([KEY])
    assert (status.phase, status.spec_hash) == (Phase.RUNNING, "h")
    api.asked.clear()
    await runner.delete(KEY, grace=5)
    assert api.asked == ["get jobs", "list pods", "delete pods"]
    api.objects = {"jobs": [], "pods": []}
    (status,) = await runner.observe([KEY])
    assert status.phase is Phase.ABSENT
    api.asked.clear()
    (status,) = await runner.observe([KEY])
    assert (status.phase, api.asked) == (Phase.ABSENT, ["get jobs"])


async def test_a_container_that_the_kubelet_does_not_find_has_neither_begun_nor_exited() -> None:
    """It says 137 of one that it never made, too; a gate that waits for its start must not open."""
    unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "it could not be located"}
    runner = holding(AskedApi(events=[], pods=[]), jobs=[job_of_a_minute()])
    for version, state, phase in ((5, unknown, Phase.WAITING), (6, {"exitCode": 137}, Phase.RUNNING)):
        told = PODS.read(encoded(wire.Pod, scheduled(version, {"terminated": state})))
        runner._workers.pods.objects[told.metadata.name] = told
        runner._workers._pod_changed(told)
        (status,) = await runner.observe([KEY])
        assert (status.phase, status.exit_code, status.start_time) == (phase, None, None)


class RefusingApi:
    """It refuses to create anything."""

    namespace = "workers"

    def __init__(self, refusal: Refusal) -> None:
        """Always with this."""
        self.refusal = refusal

    async def ask(self, *_: object, **__: object) -> Any:
        """Refuse."""
        raise self.refusal


@pytest.mark.parametrize("code", [403, 409, 429])
async def test_what_was_not_done_may_be_tried_again_without_looking(code: int) -> None:
    """409: many creates at once are counted against a quota. None of them leaves anything behind."""
    runner = holding(RefusingApi(Refusal(code, Status(reason="Conflict"), retry_after=7.0)))
    with pytest.raises(Declined) as declined:
        await runner.launch(a_launch())
    assert declined.value.retry_after == 7.0


class TakingApi:
    """It takes every Job."""

    namespace = "workers"

    def __init__(self) -> None:
        """None yet."""
        self.taken: list[object] = []
        self.checked: list[str] = []
        """How unknown fields were to be looked for."""

    async def ask(
        self, read: Any, verb: str, resource: str, *, body: object, query: Mapping[str, str], metadata_only: bool
    ) -> Any:
        """Answer a create with the Job's metadata."""
        assert (verb, resource, metadata_only) == ("create", "jobs", True)
        self.taken.append(body)
        self.checked.append(query["fieldValidation"])
        return read(encoded(wire.Job, job_of_a_minute()))


async def test_a_job_is_sent_as_protobuf_unless_its_targets_patch_says_what_that_has_no_word_for() -> None:
    """Then as JSON, which has words for everything: also for a mistake, so that the API server says what it is."""
    pod = {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["kafka"]}]}
    options = {
        "plain": PodOptions(patch={"spec": {"template": {"spec": {"priorityClassName": "low"}}}}),
        "more": PodOptions(patch={"spec": {"template": {"spec": pod}}}),
        "mistaken": PodOptions(patch={"spec": {"template": {"spec": {"containers": [MISTAKEN]}}}}),
    }
    api: Any = TakingApi()
    runner = KubernetesRunner(api, rng=Random(1), secret="none", options=options, clock=WallClock())
    for target in ("plain", "more", "mistaken", "unknown", "more"):
        launch = dataclasses.replace(a_launch(), target=target)
        assert isinstance(await runner.launch(launch), WorkerStatus)
    plain, more, mistaken, unknown, more_again = api.taken
    assert api.checked == ["Ignore", "Strict", "Strict", "Ignore", "Strict"]
    assert isinstance(plain, bytes)
    assert isinstance(unknown, bytes)
    assert more["spec"]["template"]["spec"].items() >= pod.items()
    assert mistaken["spec"]["template"]["spec"]["containers"][0]["args"] == MISTAKEN["args"]
    assert more_again == more


MISTAKEN = {"name": manifest.CONTAINER, "args": "a text where a list belongs"}
