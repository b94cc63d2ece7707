"""Strategic merge patches, as far as a Job needs them.

Kubernetes' rules (sig-api-machinery, "Strategic Merge Patch"): objects are merged key by key, null removes a key, a list
is replaced, unless its elements have a key by which they are merged. `$patch: delete` removes such an element or an object,
`$patch: replace` replaces an object, or as an element of its own a list, as a whole. Other directives are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

DIRECTIVE: Final = "$patch"

MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
"""The lists in a pod whose elements are merged (API reference of v1.34, "patch merge key"), and by what."""


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the patch laid over it; neither is changed. Raises `ValueError` for what is no such patch."""
    directive = patch.get(DIRECTIVE, "merge")
    if unknown := [key for key in patch if key.startswith("$") and key != DIRECTIVE]:
        raise ValueError(f"the directive {unknown[0]} is not supported")
    if directive not in {"merge", "replace"}:
        raise ValueError(f"{DIRECTIVE} cannot be {directive!r} here")
    result = dict(base) if directive == "merge" else {}
    for key, value in patch.items():
        if key == DIRECTIVE:
            continue
        if value is None or (isinstance(value, Mapping) and value.get(DIRECTIVE) == "delete"):
            result.pop(key, None)
        elif isinstance(value, Mapping):
            known = result.get(key)
            result[key] = merged(known if isinstance(known, Mapping) else {}, value)
        elif key in MERGE_KEYS and isinstance(value, Sequence) and not isinstance(value, str):
            result[key] = _merged_list(result.get(key) or (), value, MERGE_KEYS[key], key)
        else:
            result[key] = value
    return result


def _merged_list(base: Sequence[Any], patch: Sequence[Any], key: str, name: str) -> list[Any]:
    """The elements of the base, each with its patch, then those that are only in the patch."""
    result = [] if {DIRECTIVE: "replace"} in patch else list(base)
    for element in patch:
        if element == {DIRECTIVE: "replace"}:
            continue
        if not isinstance(element, Mapping) or key not in element:
            raise ValueError(f"the elements of {name} are objects with a {key}, not {element!r:.80}")
        place = next((i for i, known in enumerate(result) if known.get(key) == element.get(key)), None)
        if element.get(DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(merged({}, element))
        else:
            result[place] = merged(result[place], element)
    return result
