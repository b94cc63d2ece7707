"""The little of Kubernetes' objects that is read here, decoded straight from JSON.

A thousand pods decode in the time that the library's models take for ten, and what is kept of ten thousand Jobs is
small. Fields that are not named here are skipped. Their meaning is Kubernetes' (API reference of v1.34).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec


class Object(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base: immutable, camelCase outside. What is absent or null has its default."""


class Metadata(Object, frozen=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None

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
    reason: str | None = None
    message: str | None = None
    last_transition_time: datetime | None = None


class JobStatus(Object, frozen=True):
    """How a Job stands."""

    conditions: tuple[Condition, ...] | None = None
    active: int | None = None


class KubernetesJob(Object, frozen=True):
    """A Job."""

    metadata: Metadata
    status: JobStatus = JobStatus()

    @property
    def ending(self) -> Condition | None:
        """The condition that says that it is over: none of its pods runs any more, and that is final."""
        for condition in self.status.conditions or ():
            if condition.type in {"Complete", "Failed"} and condition.status == "True":
                return condition
        return None


class Waiting(Object, frozen=True):
    """A container that does not run yet."""

    reason: str | None = None
    message: str | None = None


class Running(Object, frozen=True):
    """A container that runs."""

    started_at: datetime | None = None


class Terminated(Object, frozen=True):
    """A container that has ended. `message` is the end of its log where it failed."""

    exit_code: int
    reason: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(Object, frozen=True):
    """One of the three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Object, frozen=True):
    """How a container stands."""

    name: str
    state: ContainerState = ContainerState()


class PodStatus(Object, frozen=True):
    """How a pod stands."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None
    init_container_statuses: tuple[ContainerStatus, ...] | None = None


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
        return next((found for found in self.status.conditions or () if found.type == kind), None)

    def container(self, name: str) -> ContainerState:
        """How one of its containers stands."""
        statuses = self.status.container_statuses or ()
        return next((found.state for found in statuses if found.name == name), ContainerState())


class Reference(Object, frozen=True):
    """Which object is meant."""

    uid: str = ""


class Event(Object, frozen=True):
    """Something that was noted of an object."""

    metadata: Metadata
    involved_object: Reference = Reference()
    reason: str = ""
    message: str = ""
    last_timestamp: datetime | None = None


class Status(Object, frozen=True):
    """What the API answers instead of an object, when it refuses."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


class ListMetadata(Object, frozen=True):
    """Of a list."""

    resource_version: str = ""
    continue_: str | None = msgspec.field(name="continue", default=None)


T = TypeVar("T")


class Listed(msgspec.Struct, Generic[T], frozen=True):
    """A page of a list."""

    metadata: ListMetadata
    items: tuple[T, ...] = ()


class WatchEvent(msgspec.Struct, frozen=True):
    """A line of a watch; what `object` is depends on `type`."""

    type: str
    object: msgspec.Raw
