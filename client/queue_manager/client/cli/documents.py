"""Messages as text for programs: the API's own JSON, or the same document as YAML. No printing here."""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf.json_format import MessageToDict, MessageToJson
from google.protobuf.message import Message

_C1: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def as_json(message: Message, *, one_line: bool = False, ascii_only: bool = False) -> str:
    """The API's own JSON, with snake_case names and every plain field, so that a script never meets a missing one."""
    text = MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None if one_line else 2,
        ensure_ascii=ascii_only,
    )
    # JSON lets these stand in a string, and some drive a terminal.
    return _C1.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_yaml(message: Message, *, ascii_only: bool = False) -> str:
    """The same document as YAML, without its last line's end."""
    import yaml

    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where PyYAML was built with it
    document = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    text = yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=not ascii_only, width=10_000)
    return str(text).rstrip("\n")
