"""The little of Kubernetes' objects that is read here. Their meaning is Kubernetes' (API reference of v1.34).

They come as protobuf: an API server that encodes a Job as JSON for a watch spends a fifth of what creating the Job costs
it, and nothing measurable on protobuf, in which it has the Job anyway. What is kept of ten thousand Jobs is small. Times
are UTC seconds since the epoch; what is absent has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.server.adapters.kubernetes.manifest import DOMAIN, MANAGED_BY
from queue_manager.wire import kubernetes_pb2 as wire

JOB_NAME_LABEL: Final = "batch.kubernetes.io/job-name"
"""Kubernetes' own, on every pod of a Job."""

_READ: Final = tuple(name.encode() for name in (f"{DOMAIN}/", MANAGED_BY, JOB_NAME_LABEL))
"""How the names of labels and annotations begin that are read here; what others write of an object is theirs."""

MAGIC: Final = b"k8s\0"
"""Begins every object (k8s.io/apimachinery, `serializer/protobuf`)."""


class Object(msgspec.Struct, frozen=True, gc=False):
    """Base: immutable."""


class Metadata(Object, frozen=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    """Those that are read."""
    creation_time: float | None = None
    deletion_time: float | None = None
    """When it is to be gone at the latest; set once its deletion has begun."""
    deletion_grace: int | None = None
    """Seconds."""

    @property
    def version(self) -> int:
        """By which objects of one resource are told older from newer. Kubernetes promises that they grow since 1.35; etcd
        always kept it."""
        return number(self.resource_version)


def number(version: str) -> int:
    """A version as a number."""
    return int(version) if version.isdecimal() else 0


class Condition(Object, frozen=True):
    """One of an object's conditions."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float | None = None


class JobStatus(Object, frozen=True):
    """How a Job stands."""

    conditions: tuple[Condition, ...] = ()
    active: int = 0
    """Pods of it that are not over."""


class KubernetesJob(Object, frozen=True):
    """A Job."""

    metadata: Metadata
    status: JobStatus = JobStatus()

    @property
    def ending(self) -> Condition | None:
        """The condition that says that it is over: none of its pods runs any more, and that is final."""
        for condition in self.status.conditions:
            if condition.type in {"Complete", "Failed"} and condition.status == "True":
                return condition
        return None

    @property
    def suspended(self) -> bool:
        """It makes no pod, and has taken back the one that it had, until somebody lets it go on."""
        return any(found.type == "Suspended" and found.status == "True" for found in self.status.conditions)


class Waiting(Object, frozen=True):
    """A container that does not run yet."""

    reason: str = ""
    message: str = ""


class Running(Object, frozen=True):
    """A container that runs."""

    start_time: float | None = None


UNKNOWN: Final = "ContainerStatusUnknown"
"""Kubelet's reason for a container that it does not find when its pod ends; it makes up an exit code, 137."""


class Terminated(Object, frozen=True):
    """A container that has ended. `message` is the end of its log where it failed."""

    exit_code: int
    reason: str = ""
    message: str = ""
    start_time: float | None = None
    end_time: float | None = None


class ContainerState(Object, frozen=True):
    """One of the three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None
    unknown: str = ""
    """What the kubelet says of one that it does not find, or has never made: where it is none of the three."""


class ContainerStatus(Object, frozen=True):
    """How a container stands."""

    name: str
    state: ContainerState = ContainerState()


class PodStatus(Object, frozen=True):
    """How a pod stands."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[Condition, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()
    init_containers: tuple[ContainerStatus, ...] = ()


class Pod(Object, frozen=True):
    """A pod."""

    metadata: Metadata
    status: PodStatus = PodStatus()

    @property
    def over(self) -> bool:
        """None of its containers runs, nor will."""
        return self.status.phase in {"Succeeded", "Failed"}

    def condition(self, kind: str) -> Condition | None:
        """The condition of this type."""
        return next((found for found in self.status.conditions if found.type == kind), None)

    def container(self, name: str) -> ContainerState:
        """How one of its containers stands."""
        return next((found.state for found in self.status.containers if found.name == name), ContainerState())


class Event(Object, frozen=True):
    """Something that was noted of an object, whose uid is `subject`."""

    metadata: Metadata
    subject: str = ""
    reason: str = ""
    message: str = ""
    last_time: float | None = None
    """When it was noted the last time: what goes on is noted again and again."""


class Status(Object, frozen=True):
    """What the API answers instead of an object, when it refuses."""

    message: str = ""
    reason: str = ""
    code: int = 0


class Named(Protocol):
    """An object with its metadata."""

    @property
    def metadata(self) -> Metadata:
        """Its name, uid and version."""


class Kept(Named, Protocol):
    """One with a status, too."""

    @property
    def status(self) -> object:
        """How it stands, as far as it is read."""


M = TypeVar("M", bound=Message)
K = TypeVar("K", bound=Named)


@dataclass(frozen=True, slots=True)
class Listed(Generic[K]):
    """A page of a list."""

    items: Sequence[K]
    version: str
    """Of the list; from there it can be watched."""
    more: str
    """By which the next page is asked for; empty: there is none."""


class Kind(Generic[K, M]):
    """A kind of objects: how one is read, and a list of them."""

    def __init__(self, resource: str, one: type[M], many: type[Any], convert: Callable[[M], K]) -> None:
        """`one` and `many` are its messages; `convert` makes of the first what is kept of an object."""
        self.resource: Final = resource
        self._one = one
        self._many = many
        self._convert = convert

    def read(self, raw: bytes, known: Mapping[str, K] = MappingProxyType({})) -> K:
        """An object. One that is `known`, by its name, in this very version is not made anew. Raises `ValueError`."""
        return self._made(_unwrapped(raw, self._one), known)

    def read_list(self, raw: bytes, known: Mapping[str, K] = MappingProxyType({})) -> Listed[K]:
        """A page of a list; otherwise like `read`."""
        page = _unwrapped(raw, self._many)
        return Listed(
            [self._made(item, known) for item in page.items],
            _text(page.metadata.resource_version),
            _text(page.metadata.continue_token),
        )

    def _made(self, found: Any, known: Mapping[str, K]) -> K:
        metadata = found.metadata
        before = known.get(_text(metadata.name))
        if before is not None and before.metadata.resource_version == _text(metadata.resource_version):
            return before
        return self._convert(found)


def read_status(raw: bytes) -> Status:
    """Why the API refuses. Raises `ValueError`."""
    said = _unwrapped(raw, wire.Status)
    return Status(_text(said.message), _text(said.reason), said.code)


def read_watch_event(frame: bytes) -> tuple[str, bytes]:
    """What has become of an object (`ADDED`, …), and the object. Raises `ValueError`."""
    event = _parsed(frame, wire.WatchEvent)
    return _text(event.type), event.object.raw


def read_review(raw: bytes) -> bool:
    """Whether a SelfSubjectAccessReview says that something is allowed. Raises `ValueError`."""
    return _unwrapped(raw, wire.SelfSubjectAccessReview).status.allowed


def _job(found: wire.Job) -> KubernetesJob:
    status = found.status
    return KubernetesJob(_metadata(found.metadata), JobStatus(_conditions(status.conditions), status.active))


def _pod(found: wire.Pod) -> Pod:
    status = found.status
    return Pod(
        _metadata(found.metadata),
        PodStatus(
            _text(status.phase),
            _text(status.reason),
            _text(status.message),
            _conditions(status.conditions),
            _containers(status.container_statuses),
            _containers(status.init_container_statuses),
        ),
    )


def _event(found: wire.Event) -> Event:
    return Event(
        _metadata(found.metadata),
        _text(found.involved_object.uid),
        _text(found.reason),
        _text(found.message),
        _time(found, "last_timestamp"),
    )


def _metadata(found: wire.ObjectMeta) -> Metadata:
    return Metadata(
        _text(found.name),
        _text(found.namespace),
        _text(found.uid),
        _text(found.resource_version),
        {_text(entry.key): _text(entry.value) for entry in found.labels if entry.key.startswith(_READ)},
        {_text(entry.key): _text(entry.value) for entry in found.annotations if entry.key.startswith(_READ)},
        _time(found, "creation_timestamp"),
        _time(found, "deletion_timestamp"),
        found.deletion_grace_period_seconds if found.HasField("deletion_grace_period_seconds") else None,
    )


def _conditions(found: Iterable[wire.Condition]) -> tuple[Condition, ...]:
    return tuple(
        Condition(_text(c.type), _text(c.status), _text(c.reason), _text(c.message), _time(c, "last_transition_time"))
        for c in found
    )


def _containers(found: Iterable[wire.ContainerStatus]) -> tuple[ContainerStatus, ...]:
    return tuple(ContainerStatus(_text(status.name), _state(status.state)) for status in found)


def _state(found: wire.ContainerState) -> ContainerState:
    waiting, running, ended = found.waiting, found.running, found.terminated
    began = _time(ended, "started_at")
    is_unknown = _text(ended.reason) == UNKNOWN and began is None
    return ContainerState(
        Waiting(_text(waiting.reason), _text(waiting.message)) if found.HasField("waiting") else None,
        Running(_time(running, "started_at")) if found.HasField("running") else None,
        Terminated(ended.exit_code, _text(ended.reason), _text(ended.message), began, _time(ended, "finished_at"))
        if found.HasField("terminated") and not is_unknown
        else None,
        _text(ended.message) if is_unknown else "",
    )


def _text(raw: bytes) -> str:
    """Texts of others need not be UTF-8."""
    return raw.decode(errors="replace")


def _time(message: Message, field: str) -> float | None:
    """A time that may be absent, or be Go's zero time, which says no more."""
    if not message.HasField(field):
        return None
    found: Timestamp = getattr(message, field)
    return found.seconds + found.nanos * 1e-9 if found.seconds > 0 else None


def _unwrapped(raw: bytes, kind: type[M]) -> M:
    if not raw.startswith(MAGIC):
        raise ValueError(f"no object of Kubernetes: {raw[:60]!r}")
    return _parsed(_parsed(raw[len(MAGIC) :], wire.Unknown).raw, kind)


def _parsed(raw: bytes, kind: type[M]) -> M:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise ValueError(f"no {kind.DESCRIPTOR.name}: {error}") from error


JOBS: Final = Kind("jobs", wire.Job, wire.JobList, _job)
PODS: Final = Kind("pods", wire.Pod, wire.PodList, _pod)
EVENTS: Final = Kind("events", wire.Event, wire.EventList, _event)
