"""The settings as text: the page docs/settings.md, from the classes that define them, and headwater.toml.

A field's comment in core/settings.py is its documentation, so the two cannot disagree.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from core.settings import PREFIX, Section, Settings

_FIELD: Final = re.compile(r"^    (?P<name>\w+): .*?(?:  # (?P<comment>.*))?$", re.MULTILINE)

_INTRODUCTION: Final = f"""# Settings

A setting has the default below, unless `headwater.toml` gives another one, unless the environment does:

```toml
[ranking]
candidates = 200
```

and `{PREFIX}RANKING__CANDIDATES=200` in the environment say the same. A variable is read as JSON, unless its setting
is text or a path. An unknown section or field is an error. Durations end in `_s` and are in seconds, 86400 a day.

`make docs` writes this page from `core/settings.py`.
"""


class Setting(NamedTuple):
    """One field: its default as headwater.toml would have it, and what the source says of it."""

    section: str
    field: str
    default: str
    comment: str


def describe() -> list[Setting]:
    """Every setting, in the order of the source."""
    found = []
    for section in msgspec.structs.fields(Settings):
        comments = {match["name"]: match["comment"] or "" for match in _FIELD.finditer(inspect.getsource(section.type))}
        for field in msgspec.structs.fields(section.type):
            found.append(Setting(section.name, field.name, _written(field.default), comments[field.name]))
    return found


def as_markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    settings = describe()
    for section in msgspec.structs.fields(Settings):
        parts.append(f"\n## [{section.name}]\n\n{_purpose(section.type)}| field | default | meaning |\n|---|---|---|\n")
        parts += [_row(one) for one in settings if one.section == section.name]
    return "".join(parts)


def as_toml(settings: Settings) -> str:
    """The settings as headwater.toml has them; where one is not the default, the default stands beside it."""
    parts = []
    told = describe()
    for section in settings.__struct_fields__:
        parts.append(f"[{section}]\n")
        for one in (one for one in told if one.section == section):
            value = _written(getattr(getattr(settings, section), one.field))
            beside = one.comment if value == one.default else f"{one.comment} (default {one.default})"
            parts.append(f"{one.field} = {value}  # {beside}\n" if beside else f"{one.field} = {value}\n")
        parts.append("\n")
    return "".join(parts)


def _row(setting: Setting) -> str:
    default, comment = setting.default.replace("|", r"\|"), setting.comment.replace("|", r"\|")
    return f"| {setting.field} | `{default}` | {comment} |\n"


def _purpose(section: type[Section]) -> str:
    own = section.__dict__.get("__doc__")
    return f"{inspect.cleandoc(own)}\n\n" if own else ""


def _written(value: Any) -> str:
    return msgspec.json.encode(str(value) if isinstance(value, Path) else value).decode()
