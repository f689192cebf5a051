"""What is stored or sent comes back as it was, and has a version."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Item, ItemChange
from core.decision import Attribution, Decision, Filters, Label, Ranked, Request
from core.events import Event
from core.manifest import Manifest
from core.profile import Act, Profile
from core.stats import ItemStats, Neighbours, Signal

STORED = (Attribution, Decision, Event, Item, ItemChange, ItemStats, Label, Manifest, Neighbours, Profile, Signal)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
whole = st.integers(-(1 << 63), (1 << 63) - 1)
SIMPLE: dict[type, st.SearchStrategy[Any]] = {
    msgspec.inspect.NoneType: st.none(),
    msgspec.inspect.BoolType: st.booleans(),
    msgspec.inspect.IntType: whole,
    msgspec.inspect.FloatType: finite,
    msgspec.inspect.BytesType: st.binary(max_size=16),
    msgspec.inspect.StrType: texts,
    msgspec.inspect.AnyType: texts,
}


def values(kind: type) -> st.SearchStrategy[Any]:
    """Values of a struct, with every field that it has."""
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: of(msgspec.inspect.type_info(field.type)) for field in fields})


def of(info: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case msgspec.inspect.StructType():
            return values(info.cls)
        case msgspec.inspect.VarTupleType():
            return st.lists(of(info.item_type), max_size=2).map(tuple)
        case msgspec.inspect.ListType():
            return st.lists(of(info.item_type), max_size=2)
        case msgspec.inspect.TupleType():
            return st.tuples(*[of(one) for one in info.item_types])
        case msgspec.inspect.DictType():
            return st.dictionaries(texts, of(info.value_type), max_size=2)
        case msgspec.inspect.UnionType():
            return st.one_of([of(one) for one in info.types])
    return SIMPLE[type(info)]


@pytest.mark.parametrize("kind", [*STORED, Filters, Ranked, Request])
@given(data=st.data())
def test_a_value_comes_back_from_msgpack_as_it_was(kind: type, data: st.DataObject) -> None:
    value = data.draw(values(kind))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value


@pytest.mark.parametrize("kind", STORED)
def test_every_stored_value_has_a_version(kind: type) -> None:
    assert "v" in kind.__struct_fields__  # type: ignore[attr-defined]


def test_a_filter_with_a_typing_error_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="categorys"):
        msgspec.json.decode(b'{"categorys": ["Tea"]}', type=Filters)


def test_no_two_decisions_share_their_defaults() -> None:
    first, second = Filters(), Filters()
    first.attributes["colour"] = ("green",)
    assert second.attributes == {}


def test_acts_are_ordered_by_strength() -> None:
    assert sorted(Act) == [Act.SHOWN, Act.VIEW, Act.CLICK, Act.WISH, Act.CART, Act.BUY]
