"""The text that stands for an item, from a template over its catalogue fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from html import unescape
from string import Formatter
from typing import Final

from core.catalogue import Attribute, Item
from core.errors import BadSettings
from core.ids import digest
from core.settings import TextSettings

SEPARATOR: Final = " | "
RULES: Final = "1"  # counts up with every change of what this module makes of an item
_TAG: Final = re.compile(r"<[a-z/!][^<>]*>", re.IGNORECASE)

Part = tuple[str, tuple[str, ...]]  # a piece of the template and the fields it names


def item_text(item: Item, settings: TextSettings) -> str:
    """Fill the template, leaving out each piece between separators whose fields are all empty.

    Entities and tags of HTML, which shops' descriptions are full of, become plain text.

    Raises:
        BadSettings: the template names a field there is none of, or none at all.

    >>> item_text(Item(item_id="1", since=0, ts=0, title="Tea &amp; cake", brand="Ilse"), TextSettings())
    'Tea & cake | Ilse'
    """
    pieces = (_fill(part, item, settings) for part in _parts(settings.template))
    return SEPARATOR.join(piece for piece in pieces if piece)


def template_hash(settings: TextSettings) -> str:
    """Changes whenever the same item could get another text."""
    _parts(settings.template)
    return digest(RULES, settings.template, *settings.attributes, str(settings.description_words))


@lru_cache(maxsize=16)
def _parts(template: str) -> tuple[Part, ...]:
    parts = tuple((piece, _fields(piece, template)) for piece in template.split(SEPARATOR))
    if not any(fields for _, fields in parts):
        raise BadSettings(f"text.template must name at least one of {_known()}, got {template!r}")
    return parts


def _fields(piece: str, template: str) -> tuple[str, ...]:
    try:
        found = [(name, spec, change) for _, name, spec, change in Formatter().parse(piece) if name is not None]
    except ValueError as error:
        raise BadSettings(f"text.template cannot be read ({error}): {template!r}") from None
    for name, spec, change in found:
        if name not in _FIELDS or spec or change:
            raise BadSettings(f"text.template may hold {_known()}, got {{{name}}} in {template!r}")
    return tuple(name for name, _, _ in found)


def _known() -> str:
    return ", ".join(f"{{{name}}}" for name in _FIELDS)


def _fill(part: Part, item: Item, settings: TextSettings) -> str:
    piece, fields = part
    values = {name: _FIELDS[name](item, settings) for name in fields}
    if fields and not any(values.values()):
        return ""
    return " ".join(piece.format_map(values).split())


def _clean(text: str) -> str:
    return " ".join(_TAG.sub(" ", unescape(text)).split())


def _description(item: Item, settings: TextSettings) -> str:
    return " ".join(_clean(item.description).split()[: settings.description_words])


def _attributes(item: Item, settings: TextSettings) -> str:
    named = ((name, item.attributes.get(name)) for name in settings.attributes)
    words = (_attribute(name, value) for name, value in named if value is not None)
    return _clean(", ".join(word for word in words if word))


def _attribute(name: str, value: Attribute) -> str:
    """A word speaks for itself; a number or a flag needs its name beside it."""
    if isinstance(value, bool):
        return name if value else ""
    if isinstance(value, float | int):
        return f"{name} {value:g}"
    return value if isinstance(value, str) else ", ".join(value)


_FIELDS: Final[Mapping[str, Callable[[Item, TextSettings], str]]] = {
    "title": lambda item, _: _clean(item.title),
    "brand": lambda item, _: _clean(item.brand),
    "categories": lambda item, _: _clean(", ".join(item.categories)),
    "attributes": _attributes,
    "description": _description,
}
