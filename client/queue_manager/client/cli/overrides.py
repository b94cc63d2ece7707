"""`queuectl start --set PATH=VALUE`: values that go over the payload of a file before it is sent.

    symbol=ETHUSDT                            a field
    requests[2].interval=1m                   an entry of a list by its number, from 0; one past the last adds one
    requests[gnn-trainer].timeout=2h          a request by the name that its job gets
    requests[0].parameters.epochs=20          a key of the user's own: all that follows is the key
    requests[4].collection_inputs=one,two     a list of strings; JSON where it begins with a bracket
    symbol=                                   takes a field away; of a key of the user's own an empty value

Only the contract says which fields there are and what they take (`field_values.py`). What the values mean is the server's
to judge.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from queue_manager.client import Violation
from queue_manager.client.cli.field_values import Misfit, fields_of, is_map, is_object, one, whole
from queue_manager.v1.service_pb2 import JobRequest, StartQueueRequest

_ENTRY: Final = re.compile(r"\[(?P<which>[^\[\]]*)\](?P<rest>.*)", re.DOTALL)


class WrongOverrides(Exception):
    """At least one `--set` cannot be applied; `faults` has all of them."""

    def __init__(self, faults: Sequence[Violation]) -> None:
        """In the order of the command line."""
        super().__init__("; ".join(f"{fault.field}: {fault.description}" for fault in faults))
        self.faults = list(faults)


def overridden(payload: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """A copy of the payload with every `PATH=VALUE` applied, in order. Raises `WrongOverrides`."""
    changed: dict[str, Any] = copy.deepcopy(dict(payload))
    faults = []
    for text in texts:
        path, equals, value = text.partition("=")
        try:
            if not equals or not path:
                raise Misfit("write PATH=VALUE, as in symbol=ETHUSDT")
            _set(changed, StartQueueRequest.DESCRIPTOR, path, value, at="")
        except Misfit as e:
            faults.append(Violation(path or text, str(e)))
    if faults:
        raise WrongOverrides(faults)
    return changed


def _set(target: dict[str, Any], descriptor: Descriptor, path: str, text: str, *, at: str) -> None:
    """Follow a path into an object. `at`: the path to the object itself, for what is said."""
    name = re.split(r"[.\[]", path, maxsplit=1)[0]
    field, rest = _field(descriptor, name, at=at), path[len(name) :]
    here = f"{at}.{name}" if at else name
    # The file may have either of JSON's two spellings.
    key = field.json_name if field.json_name in target else field.name
    if not rest:
        if text:
            target[key] = whole(field, text)
        else:
            target.pop(key, None)
    elif is_map(field):
        if not rest.startswith(".") or rest == ".":
            raise Misfit(f"has keys of your own; write {here}.KEY=VALUE")
        _container(target, key, dict, here)[rest[1:]] = text
    elif field.is_repeated:
        _set_entry(_container(target, key, list, here), field, rest, text, at=here)
    elif is_object(field) and rest.startswith("."):
        _set(_container(target, key, dict, here), fields_of(field), rest[1:], text, at=here)
    else:
        raise Misfit(f"{here} is a single value; {rest} leads nowhere")


def _set_entry(entries: list[Any], field: FieldDescriptor, path: str, text: str, *, at: str) -> None:
    """Follow a path that begins with `[which]` into a list."""
    found = _ENTRY.fullmatch(path)
    if found is None:
        raise Misfit(f"{at} is a list; write {at}[0]{path if path.startswith('.') else ''}")
    index, rest = _index(entries, field, found["which"]), found["rest"]
    here = f"{at}[{found['which']}]"
    if not rest:
        entries[index : index + 1] = [one(field, text)]
        return
    if not is_object(field) or not rest.startswith("."):
        raise Misfit(
            f"{here} is a single value; {rest} leads nowhere" if not is_object(field) else f"write {here}.FIELD"
        )
    if index == len(entries):
        entries.append({})
    if not isinstance(entries[index], dict):
        raise Misfit(f"{here} is no object in the file")
    _set(entries[index], fields_of(field), rest[1:], text, at=here)


def _index(entries: Sequence[Any], field: FieldDescriptor, which: str) -> int:
    """The place of an entry; that after the last adds one."""
    size = len(entries)
    if re.fullmatch(r"[0-9]{1,9}", which):
        if int(which) <= size:
            return int(which)
        there = f"the last is [{size - 1}]" if size else "there are none yet"
        raise Misfit(f"{there}; [{size}] adds one")
    if field.message_type is not JobRequest.DESCRIPTOR:
        raise Misfit(f"{which!r} is no number; [0] is the first")
    names = _job_names(entries)
    if which in names:
        return names.index(which)
    raise Misfit(f"there is no job {which!r}; {_choices(which, names)}")


def _job_names(entries: Sequence[Any]) -> list[str]:
    """The names that the jobs will get: the target, and from the second of the same target on `-2`, `-3`, …."""
    seen: Counter[str] = Counter()
    names = []
    for entry in entries:
        target = str(entry.get("target", "")) if isinstance(entry, Mapping) else ""
        seen[target] += 1
        names.append(target if seen[target] == 1 else f"{target}-{seen[target]}")
    return names


def _field(descriptor: Descriptor, name: str, *, at: str) -> FieldDescriptor:
    for field in descriptor.fields:
        if name in {field.name, field.json_name}:
            return field
    raise Misfit(
        f"{at or 'a start request'} has no field {name!r}; {_choices(name, [f.name for f in descriptor.fields])}"
    )


def _choices(wrong: str, names: Sequence[str]) -> str:
    """The nearest name, and all."""
    near = difflib.get_close_matches(wrong, names, n=1)
    question = f"did you mean {near[0]}? " if near else ""
    known = f"There are {', '.join(names)}" if near else f"there are {', '.join(names) or 'none'}"
    return question + known


def _container(target: dict[str, Any], key: str, kind: type, here: str) -> Any:
    """The object or list that is there, or a new one; null is nothing."""
    if target.get(key) is None:
        target[key] = kind()
    if not isinstance(target[key], kind):
        raise Misfit(f"{here} is no {'list' if kind is list else 'object'} in the file")
    return target[key]
