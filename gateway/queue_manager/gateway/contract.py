"""The contract as the gateway sees it: every method with its HTTP bindings, read from a descriptor set.

`api.binpb`, which is generated with the stubs, has the descriptors of `queue_manager.v1` with their comments. Message
classes come from a pool of the set's own, so that any other service can be put here in its place. Methods that take a
stream have no HTTP form and are left out (`google/api/http.proto`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet, MethodDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from queue_manager.gateway.path_template import PathTemplate, TemplateError

WHOLE: Final = "*"
"""As `body`: the whole request is the body."""


class ContractError(ValueError):
    """An annotation that cannot be served; the message names the method."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service."""

    service: str
    """Full name."""
    name: str
    request: type[Message]
    response: type[Message]
    streams: bool
    """Whether it answers a stream."""

    @property
    def path(self) -> str:
        """What gRPC calls it by."""
        return f"/{self.service}/{self.name}"


@dataclass(frozen=True, slots=True)
class Binding:
    """One way in which a method is called over HTTP."""

    method: Method
    http_method: str
    template: PathTemplate
    body: str
    """The field that the body becomes; `*` for the whole request, empty for no body."""
    response_body: str
    """The field that is answered; empty for the whole response."""
    additional: bool
    """Whether it is one of `additional_bindings`."""


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything that is bound to HTTP."""

    files: FileDescriptorSet
    pool: DescriptorPool
    bindings: Sequence[Binding]

    @classmethod
    def of(cls, files: FileDescriptorSet) -> Contract:
        """Raises `ContractError`."""
        pool = DescriptorPool()
        for file in files.file:
            pool.Add(file)
        return cls(files, pool, tuple(_bindings(files, pool)))

    @classmethod
    def load(cls) -> Contract:
        """The Queue Manager's own."""
        return cls.of(FileDescriptorSet.FromString((resources.files("queue_manager.v1") / "api.binpb").read_bytes()))


def _bindings(files: FileDescriptorSet, pool: DescriptorPool) -> Iterator[Binding]:
    for file in files.file:
        for service in file.service:
            name = ".".join(filter(None, (file.package, service.name)))
            for described in service.method:
                if described.client_streaming or not described.options.HasExtension(annotations_pb2.http):
                    continue
                yield from _of_method(name, described, pool)


def _of_method(service: str, described: MethodDescriptorProto, pool: DescriptorPool) -> Iterator[Binding]:
    method = Method(
        service=service,
        name=described.name,
        request=_message_class(pool, described.input_type),
        response=_message_class(pool, described.output_type),
        streams=described.server_streaming,
    )
    rule = described.options.Extensions[annotations_pb2.http]
    yield _binding(method, rule, pool, additional=False)
    for other in rule.additional_bindings:
        yield _binding(method, other, pool, additional=True)


def _message_class(pool: DescriptorPool, name: str) -> type[Message]:
    return GetMessageClass(pool.FindMessageTypeByName(name.removeprefix(".")))


def _binding(method: Method, rule: HttpRule, pool: DescriptorPool, *, additional: bool) -> Binding:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise ContractError(f"{method.name}: an HTTP rule has no path")
    http_method, text = (
        (rule.custom.kind, rule.custom.path) if kind == "custom" else (kind.upper(), getattr(rule, kind))
    )
    try:
        template = PathTemplate.parse(text)
        for variable in template.variables:
            variable_fields(pool.FindMessageTypeByName(method.request.DESCRIPTOR.full_name), variable.field_path)
        for name, kind_of in ((rule.body, method.request), (rule.response_body, method.response)):
            if name not in {"", WHOLE, *kind_of.DESCRIPTOR.fields_by_name}:
                raise ContractError(f"{kind_of.DESCRIPTOR.name} has no field {name!r}")
    except (TemplateError, ContractError) as error:
        raise ContractError(f"{method.name}: {error}") from None
    if rule.additional_bindings and additional:
        raise ContractError(f"{method.name}: additional bindings cannot have more of them")
    return Binding(method, http_method, template, rule.body, rule.response_body, additional)


def variable_fields(message: Descriptor, field_path: str) -> Sequence[FieldDescriptor]:
    """The fields that a path leads through, the plain one that a variable fills last. Raises `ContractError`."""
    *parents, last = field_path.split(".")
    found = []
    for name in parents:
        field = message.fields_by_name.get(name)
        if field is None or field.message_type is None or field.is_repeated:
            raise ContractError(f"{name!r} of {{{field_path}}} is no message in {message.name}")
        found.append(field)
        message = field.message_type
    field = message.fields_by_name.get(last)
    if field is None or field.is_repeated or field.type in {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP}:
        raise ContractError(f"{last!r} of {{{field_path}}} is no plain field of {message.name}")
    return [*found, field]
