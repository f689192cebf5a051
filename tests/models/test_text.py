import sys
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import Attribute, Item
from core.errors import BadSettings
from core.settings import TextSettings
from models.text import item_text, template_hash


def item(
    title: str = "",
    brand: str = "",
    categories: tuple[str, ...] = (),
    description: str = "",
    attributes: dict[str, Attribute] | None = None,
) -> Item:
    return Item(
        item_id="1", since=0, ts=0, title=title, brand=brand, categories=categories, description=description,
        attributes=attributes or {},
    )  # fmt: skip


TEAPOT = item(
    title="Teapot",
    brand="Ilse",
    categories=("Kitchen > Teapots", "Gifts"),
    description="Holds one litre.",
    attributes={"colour": "red", "weight": 1.5, "handmade": True, "boxed": False, "for": ["tea", "chai"]},
)


def test_all_fields_stand_in_the_order_of_the_template() -> None:
    settings = TextSettings(attributes=("colour", "weight"))
    wanted = "Teapot | Ilse | Kitchen > Teapots, Gifts | red, weight 1.5 | Holds one litre."
    assert item_text(TEAPOT, settings) == wanted


def test_no_attribute_is_in_the_text_unless_it_is_named() -> None:
    assert "red" not in item_text(TEAPOT, TextSettings())


def test_attributes_stand_in_the_order_of_the_settings_and_flags_by_their_name() -> None:
    settings = TextSettings(template="{attributes}", attributes=("for", "boxed", "handmade", "nothing", "colour"))
    assert item_text(TEAPOT, settings) == "tea, chai, handmade, red"


def test_empty_parts_vanish_with_their_separator() -> None:
    assert item_text(item(title="Teapot", description="Red."), TextSettings()) == "Teapot | Red."
    assert item_text(item(brand=" \t"), TextSettings()) == ""


def test_words_beside_an_empty_field_vanish_with_it_and_fixed_ones_stay() -> None:
    settings = TextSettings(template="product | {title} by {brand} | made of {description}")
    assert item_text(item(title="Teapot", brand="Ilse"), settings) == "product | Teapot by Ilse"
    assert item_text(item(title="Teapot"), settings) == "product | Teapot by"


def test_descriptions_are_cut_at_a_number_of_words() -> None:
    settings = TextSettings(template="{description}", description_words=3)
    assert item_text(item(description="one two\n three four"), settings) == "one two three"


def test_entities_and_tags_become_plain_text_and_white_space_single_spaces() -> None:
    shown = item(
        title="Tea&nbsp;&amp;  cake\n&quot;Rose&quot;", description="<p>Fine<br/>china</p> &lt;b&gt;new&lt;/b&gt;"
    )
    assert item_text(shown, TextSettings()) == 'Tea & cake "Rose" | Fine china new'


def test_less_and_greater_than_are_no_tags() -> None:
    assert item_text(item(title="for ages < 3 and > 2"), TextSettings()) == "for ages < 3 and > 2"


def test_an_entity_is_unescaped_once_only() -> None:
    assert item_text(item(title="how to write &amp;amp;"), TextSettings()) == "how to write &amp;"


def test_braces_in_the_catalogue_are_left_alone() -> None:
    assert item_text(item(title="{brand} {", brand="Ilse"), TextSettings()) == "{brand} { | Ilse"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{title} | {colour}", r"got \{colour\}"),
        ("{}", r"got \{\}"),
        ("{title.upper}", r"got \{title.upper\}"),
        ("{title!r}", r"got \{title\}"),
        ("{title:>9}", r"got \{title\}"),
        ("{title", "cannot be read"),
        ("the same for all", "at least one of"),
        ("", "at least one of"),
    ],
)
def test_a_template_that_cannot_be_filled_is_a_bad_setting(template: str, told: str) -> None:
    settings = TextSettings(template=template)
    with pytest.raises(BadSettings, match=told):
        item_text(TEAPOT, settings)
    with pytest.raises(BadSettings, match=told):
        template_hash(settings)


def test_the_hash_changes_with_whatever_changes_texts() -> None:
    kinds = [
        TextSettings(),
        TextSettings(template="{title}"),
        TextSettings(attributes=("colour",)),
        TextSettings(attributes=("colour", "weight")),
        TextSettings(attributes=("weight", "colour")),
        TextSettings(description_words=31),
    ]
    assert len({template_hash(settings) for settings in kinds}) == len(kinds)
    assert template_hash(TextSettings()) == template_hash(TextSettings())


@given(title=st.text(), brand=st.text(), description=st.text())
def test_any_text_of_a_shop_gives_one_tidy_line(title: str, brand: str, description: str) -> None:
    text = item_text(item(title=title, brand=brand, description=description), TextSettings())
    assert text == " ".join(text.split())
    assert not text.startswith(" |")
    assert not text.endswith("| ")


def test_texts_need_no_torch() -> None:
    check = "import sys, models.text, models.cache, models.weights; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", check], check=False).returncode == 0
