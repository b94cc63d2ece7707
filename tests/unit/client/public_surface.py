"""Writes down what the client's users rely on: every public name with its signature, one a line.

`public_surface.txt` is how it is meant to be. Whatever is added, removed or renamed there is a decision, and what is
removed or renamed breaks somebody's program. To take it over as it is now:

    .venv/bin/python -m tests.unit.client.public_surface > tests/unit/client/public_surface.txt
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import queue_manager.client
import queue_manager.client.testing

MODULES = (queue_manager.client, queue_manager.client.testing)
SPECIAL = frozenset({"__init__", "__enter__", "__aenter__"})


class Bare(str):
    """An annotation that is shown as it is written."""

    __slots__ = ()
    __repr__ = str.__str__


def surface() -> str:
    """All of it."""
    return "\n".join(line for module in MODULES for line in of_module(module)) + "\n"


def of_module(module: ModuleType) -> Iterator[str]:
    """Every name that the module exports."""
    for name in sorted(module.__all__):
        value = getattr(module, name)
        bases = [base.__name__ for base in value.__bases__ if base is not object]
        yield f"{module.__name__}.{name}" + (f" ({', '.join(bases)})" if bases else "")
        yield from (f"    {member}" for member in sorted({*members(value), *attributes(value)}))


def members(owner: type) -> Iterator[str]:
    """What stands in the class itself; what it inherits stands with its base."""
    for name, value in vars(owner).items():
        if name.startswith("_") and name not in SPECIAL:
            continue
        if isinstance(value, property):
            yield f"{name}: {inspect.signature(value.fget or len).return_annotation}"
        elif inspect.isroutine(value):
            function = inspect.unwrap(value)
            yield f"{'async def' if inspect.iscoroutinefunction(function) else 'def'} {name}{signature(function)}"
        elif not inspect.ismemberdescriptor(value):
            yield f"{name} = {stable(repr(value))}"


def attributes(owner: type) -> Iterator[str]:
    """What its instances have: fields, and what an exception carries."""
    if dataclasses.is_dataclass(owner):
        yield from (f"{field.name}: {field.type}" for field in dataclasses.fields(owner))
    elif issubclass(owner, queue_manager.client.QueueManagerError):
        inherited = vars(owner.__bases__[0](""))
        yield from (f"self.{name}" for name in vars(owner("")) if name not in inherited)


def signature(function: object) -> str:
    """A signature, its annotations as they are written."""
    found = inspect.signature(function)  # type: ignore[arg-type]  # whatever it is, it is a routine
    bare = [
        p.replace(annotation=Bare(p.annotation)) if p.annotation is not p.empty else p
        for p in found.parameters.values()
    ]
    return stable(str(found.replace(parameters=bare, return_annotation=Bare(found.return_annotation))))


def stable(text: str) -> str:
    """Less what differs from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    print(surface(), end="")
