"""HTML and SVG elements in one expression each; the standard library does the escaping."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element


def e(tag: str, *children: Element | str | None, **attributes: object) -> Element:
    """An element with children, of which None is left out.

    In attribute names a trailing underscore is dropped and the others become hyphens. An attribute
    that is None is left out, one that is True has no value.

    >>> page(e("p", "1 < 2 ", e("b", "&"), class_="x y", data_n=3), doctype=False)
    '<p class="x y" data-n="3">1 &lt; 2 <b>&amp;</b></p>'
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    element = Element(tag, {name: "" if value is True else str(value) for name, value in named.items()})
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child is not None and len(element):
            element[-1].tail = (element[-1].tail or "") + child
        elif child is not None:
            element.text = (element.text or "") + child
    return element


def page(root: Element, *, doctype: bool = True) -> str:
    """The text of an element and all below it."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    return f"<!doctype html>\n{text}\n" if doctype else text
