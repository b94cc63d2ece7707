"""What a worker's container asks for and may use: amounts as Kubernetes writes them, and which go together.

The API server refuses a container that asks for more than it may use, and with it the whole Job. So of requests and limits
the one that is only a default gives way to the one that was given. Rules: Kubernetes' API reference ("Quantity"), and
"Resource Management for Pods and Containers".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

Quantity = str | int | float
"""`100m`, `256Mi`, `1.5`; YAML makes a number of some, which Kubernetes takes, too."""

DEFAULT_REQUESTS: Final[Mapping[str, Quantity]] = {"cpu": "100m", "memory": "256Mi"}
DEFAULT_LIMITS: Final[Mapping[str, Quantity]] = {"cpu": "1", "memory": "1Gi"}

STANDARD: Final = ("cpu", "memory", "ephemeral-storage")
"""What every node has; all other resources but huge pages have names with a domain."""
HUGE_PAGES: Final = "hugepages-"

_QUANTITY: Final = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([numkMGTPE]?|[KMGTPE]i|[eE][+-]?[0-9]{1,3})")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def amount(quantity: Quantity) -> Decimal:
    """The number that a quantity is. Raises `ValueError` for what is none, or less than nothing."""
    found = _QUANTITY.fullmatch(str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity; write it as in 100m, 1.5, 256Mi or 2G")
    number, unit = Decimal(found[1]), found[2]
    if number < 0:
        raise ValueError(f"{quantity!r} is less than nothing; write it as in 100m, 1.5, 256Mi or 2G")
    if unit in _BINARY:
        return number * Decimal(1024) ** _BINARY[unit]
    exponent = _DECIMAL[unit] if unit in _DECIMAL else int(unit[1:])
    return number.scaleb(exponent)


def settled(
    requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The same, where one is the default, with that giving way. Raises `ValueError` for what is no quantity.

    A default is known by being the very object: who writes the same figures means them.
    """
    requests_given, limits_given = requests is not DEFAULT_REQUESTS, limits is not DEFAULT_LIMITS
    for quantity in (*requests.values(), *limits.values()):
        amount(quantity)
    if requests_given and not limits_given:
        own = {name: asked for name, asked in requests.items() if _is_never_shared(name)}
        limits = {name: max(limit, requests.get(name, limit), key=amount) for name, limit in limits.items()} | own
    elif limits_given and not requests_given:
        requests = {name: min(asked, limits.get(name, asked), key=amount) for name, asked in requests.items()}
    return _as_texts(requests), _as_texts(limits)


def broken_rule(name: str, quantity: Quantity) -> str | None:
    """Why no container can have this much of it, if it cannot."""
    if "/" not in name and name not in STANDARD and not name.startswith(HUGE_PAGES):
        return f"is no resource; there are {', '.join(STANDARD)}, {HUGE_PAGES}<size>, and those with a domain"
    try:
        number = amount(quantity)
    except ValueError as error:
        return str(error)
    if "/" in name and number != number.to_integral_value():
        return f"{quantity!r} is no whole number, and a part of one cannot be given; write it as in 1"
    return None


def contradictions(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Iterator[tuple[str, str]]:
    """By resource: why its request cannot be with its limit. All of them have to be quantities."""
    for name, asked in requests.items():
        limit = limits.get(name)
        if _is_never_shared(name) and (limit is None or amount(limit) != amount(asked)):
            what = "there is no limit" if limit is None else f"the limit is {limit}"
            yield name, f"{asked} is asked for, and {what}, which has to be the same; leave the request out"
        elif limit is not None and amount(asked) > amount(limit):
            yield name, f"{asked} is asked for, and the limit is {limit}; lower the one or raise the other"


def _is_never_shared(name: str) -> bool:
    """Whether a container has what it asks for to itself, so that it cannot be promised to several (GPUs, huge pages)."""
    return "/" in name or name.startswith(HUGE_PAGES)


def _as_texts(resources: Mapping[str, Quantity]) -> Mapping[str, str]:
    return {name: str(quantity) for name, quantity in resources.items()}
