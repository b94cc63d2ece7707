"""What stands behind each path: a binding of the contract, ready to read requests and to write answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from queue_manager.gateway.contract import WHOLE, Binding, Contract, variable_fields
from queue_manager.gateway.conventions import AFTER, REVISION, has_revision, is_watch
from queue_manager.gateway.decode import Reader
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.frames import Writer
from queue_manager.gateway.path_template import BadPath
from queue_manager.gateway.problems import Malformed, MethodNotAllowed, NoSuchPath, Violation
from queue_manager.gateway.query import Parameters, put_text
from queue_manager.gateway.router import Router
from queue_manager.gateway.strict_json import parse

REMEMBERED: Final = 128
"""Answers of an endpoint."""
REMEMBERED_SIZE: Final = 2**15
"""Bytes of a response, at most; its JSON is two or three times that."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A response, written down."""

    body: bytes
    etag: str
    """Empty where there is none."""


class Endpoint:
    """A binding."""

    def __init__(self, binding: Binding, contract: Contract, encoder: Encoder) -> None:
        """Nothing is called here."""
        self.binding = binding
        self.method = binding.method
        self._pool = contract.pool
        self._encoder = encoder
        request = contract.pool.FindMessageTypeByName(self.method.request.DESCRIPTOR.full_name)
        self._request = request
        self._variables = [
            (variable, variable_fields(request, variable.field_path)) for variable in binding.template.variables
        ]
        bound = [variable.field_path for variable in binding.template.variables]
        self.takes_body = bool(binding.body)
        self._parameters = None if binding.body == WHOLE else Parameters(request, [*bound, binding.body])
        response = contract.pool.FindMessageTypeByName(self.method.response.DESCRIPTOR.full_name)
        answered = response.fields_by_name[binding.response_body].message_type if binding.response_body else response
        self.has_etag = binding.http_method == "GET" and not self.method.streams and has_revision(answered)
        self._remember = lru_cache(maxsize=REMEMBERED)(self._answered)
        self.writer = Writer(response, encoder)
        self.resumes = request.fields_by_name[AFTER] if self.method.streams and is_watch(request, response) else None
        """The field that a watch is resumed by; None: it is no watch."""

    def request(self, segments: Sequence[str], query: Sequence[tuple[str, str]], body: bytes) -> Message:
        """The message that a request stands for. Raises `Malformed` with everything that is wrong with it."""
        message = self.method.request()
        reader = Reader(self._pool)
        if self.binding.body == WHOLE:
            if body:
                reader.message(message, parse(body))
        elif self.binding.body and body:
            field = self._request.fields_by_name[self.binding.body]
            reader.field(message, field, parse(body), field.name)
        if self._parameters is not None:
            self._parameters.read(reader, message, query)
        elif query:
            for name, _ in query:
                reader.wrong(name, "no such query parameter: all fields are in the body")
        for variable, fields in self._variables:
            holder = message
            for field in fields[:-1]:
                holder = getattr(holder, field.name)
                holder.SetInParent()
            try:
                text = variable.value(segments)
            except BadPath as error:
                reader.wrong(variable.field_path, str(error))
                continue
            self._agree(reader, holder, fields[-1], text, variable.field_path)
        reader.raise_if_wrong()
        return message

    @staticmethod
    def _agree(reader: Reader, holder: Message, field: FieldDescriptor, text: str, path: str) -> None:
        """The path has the last word, and a body that names another resource is a mistake."""
        was_set, before = holder.HasField(field.name) if field.has_presence else bool(getattr(holder, field.name)), ""
        if was_set:
            before = getattr(holder, field.name)
        put_text(reader, holder, field, text, path)
        if was_set and before != getattr(holder, field.name):
            reader.wrong(path, f"is {before!r} in the body and {text!r} in the path; leave it out of the body")

    def answer(self, raw: bytes) -> Answered:
        """What is answered for a response. Of a resource with a revision the newest are remembered: pollers ask again."""
        return self._remember(raw) if self.has_etag and len(raw) <= REMEMBERED_SIZE else self._answered(raw)

    def _answered(self, raw: bytes) -> Answered:
        response = self.method.response.FromString(raw)
        field = self.binding.response_body
        body = self._encoder.field_to_json(response, field) if field else self._encoder.to_json(response)
        if not self.has_etag:
            return Answered(body, "")
        # Weak: another version of the gateway may write the same revision otherwise.
        return Answered(body, f'W/"{getattr(getattr(response, field) if field else response, REVISION)}"')


class Endpoints:
    """All of them, by method and path."""

    def __init__(self, contract: Contract, encoder: Encoder) -> None:
        """Raises `RouteConflict`."""
        self._router: Router[Endpoint] = Router()
        self.all = [Endpoint(binding, contract, encoder) for binding in contract.bindings]
        for endpoint in self.all:
            self._router.add(endpoint.binding.http_method, endpoint.binding.template, endpoint)

    def find(self, http_method: str, raw_path: str) -> tuple[Endpoint, Sequence[str]]:
        """The endpoint, and the segments of the path. Raises `NoSuchPath`, `MethodNotAllowed`, `Malformed`."""
        try:
            found = self._router.resolve("GET" if http_method == "HEAD" else http_method, raw_path)
        except BadPath as error:
            raise Malformed([Violation("path", str(error))]) from None
        if not isinstance(found, frozenset):
            return found
        if not found:
            raise NoSuchPath(f"nothing is at {raw_path}; /docs tells what there is")
        allow = allowed(found)
        raise MethodNotAllowed(f"{http_method} is not allowed here; {allow} are", headers={"Allow": allow})


def allowed(methods: Iterable[str]) -> str:
    """As the value of `Allow`."""
    found = set(methods)
    return ", ".join(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())))
