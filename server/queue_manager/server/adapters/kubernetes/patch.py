"""Strategic merge patches, as far as a Job needs them.

Kubernetes' rules (sig-api-machinery, "Strategic Merge Patch"): objects are merged key by key, null removes a key, a list
is replaced, unless its elements have a key by which they are merged. `$patch: delete` removes such an element, and
`$patch: replace` in an object replaces it as a whole.
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
}
"""The lists in a pod whose elements are merged (API reference of v1.34, "patch merge key"), and by what."""


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the patch laid over it; neither is changed."""
    if patch.get(DIRECTIVE) == "replace":
        return {key: value for key, value in patch.items() if key != DIRECTIVE}
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            known = result.get(key)
            result[key] = merged(known if isinstance(known, Mapping) else {}, value)
        elif key in MERGE_KEYS and isinstance(value, Sequence) and not isinstance(value, str):
            result[key] = _merged_list(result.get(key) or (), value, MERGE_KEYS[key])
        else:
            result[key] = value
    return result


def _merged_list(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    """The elements of the base, each with its patch, then those that are only in the patch."""
    result = list(base)
    for element in patch:
        place = next((i for i, known in enumerate(result) if known.get(key) == element.get(key)), None)
        if element.get(DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(merged({}, element))
        else:
            result[place] = merged(result[place], element)
    return result
