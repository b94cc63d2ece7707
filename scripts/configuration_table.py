"""Print the table of all environment variables, made from the settings' own descriptions.

`--write` puts it between the markers in README.md, `--check` exits with 1 where what stands there differs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from queue_manager.server.settings.groups import GATEWAY, GROUPS
from queue_manager.server.settings.kinds import format_duration, format_size, parse_duration, parse_size

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- configuration -->", "<!-- /configuration -->"


def table() -> str:
    """The table in Markdown, ending in a line break."""
    rows = [
        (str(field.validation_alias), shown_default(field), field.description or "")
        for group in dict.fromkeys((*GROUPS, *GATEWAY))
        for field in group.model_fields.values()
    ]
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {f'`{default}`' if default else '–'} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(lines) + "\n"


def shown_default(field: FieldInfo) -> str:
    """The default as one would write it."""
    if field.default is None or field.default == ():
        return ""
    readers = [getattr(rule, "func", None) for rule in field.metadata]
    if parse_duration in readers:
        return format_duration(field.default)
    if parse_size in readers:
        return format_size(field.default)
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def main() -> None:
    """Print, write or check."""
    if not {"--write", "--check"} & set(sys.argv):
        print(table(), end="")
        return
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        sys.exit(f"{README} must have the markers {BEGIN} and {END} once, each on a line of its own")
    wanted = pattern.sub(lambda _: f"{BEGIN}\n{table()}{END}", text)
    if "--write" in sys.argv:
        README.write_text(wanted, encoding="utf-8")
    elif wanted != text:
        sys.exit("README.md: the table of variables is stale; run scripts/configuration_table.py --write")


if __name__ == "__main__":
    main()
