"""The profile step: what one shopper did, and what that says of the items.

Reads clickstream, feedback and identity, keyed by shopper. Emits item-signals, and an identity
record when a visitor turns out to be a user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from core.events import FEEDBACK, Event, Line
from core.ids import signed64
from core.profile import ACT_OF, Act, Memory, Profile, Session, Touch
from core.settings import NeighbourSettings, ProfileSettings
from core.stats import Signal

SIGNAL_OF: Final = {
    "view_item_list": "shown",
    "view_item": "view",
    "select_item": "click",
    "add_to_wishlist": "wish",
    "add_to_cart": "cart",
    "purchase": "buy",
    "refund": "refund",
    "like": "like",
    "dislike": "dislike",
    "hide": "dislike",
}
_PAIRED: Final = {  # by event: what its items are together, and the least that others of the session were
    "view_item": ("seen", Act.VIEW),
    "select_item": ("seen", Act.VIEW),
    "add_to_cart": ("carted", Act.CART),
    "purchase": ("bought", Act.BUY),
}
_UNNAMED: Final = "~"  # begins the id of a session that the shop gave none
_NEVER: Final = Memory()


class Output(msgspec.Struct, frozen=True, gc=False):
    """Something a step says to a topic. The value is the object; the driver encodes it."""

    topic: str
    key: str
    value: object


class Limits(NamedTuple):
    """The settings the step reads."""

    profile: ProfileSettings
    neighbours: NeighbourSettings


class Link(msgspec.Struct, frozen=True, array_like=True, tag="link"):
    """This visitor is that user: a record of `identity`, keyed by the visitor."""

    v: int
    visitor: str
    user: str
    ts: int


class Absorb(msgspec.Struct, frozen=True, array_like=True, tag="absorb"):
    """A visitor's whole profile, for the user to take in: a record of `identity`, keyed by the user."""

    v: int
    visitor: str
    profile: Profile


def observe(profile: Profile, message: Event | Link | Absorb, limits: Limits) -> tuple[Profile, Sequence[Output]]:
    """The profile after a message, and what follows from it. An event id seen before changes nothing."""
    if isinstance(message, Link):
        return _give_away(profile, message)
    if isinstance(message, Absorb):
        return merge(profile, message.profile, limits.profile), ()
    mark = signed64(message.event_id)
    if mark in profile.seen:
        return profile, ()
    event, settings = message, limits.profile
    name = session_of(profile, event, settings.idle_s)
    session = _find(profile.sessions, name)
    lines = _distinct(event.items)
    outputs = _signals(event, lines, session, limits.neighbours)
    if event.name == "purchase":
        outputs += _repeats(event, lines, profile.memory)
        if not profile.baskets:  # what newcomers take is not what is popular
            outputs += [_tell(Signal(1, line.item_id, "newcomer", event.ts)) for line in lines]
    linked, links = _link(profile.linked, event, name, settings.sessions)
    return _did(profile, event, lines, mark, name, session, linked, settings), outputs + links


def session_of(profile: Profile, event: Event, idle_s: float) -> str:
    """The id of the session an event belongs to: its own, or one that was not idle for too long then, or a new one."""
    if event.session_id:
        return event.session_id
    idle_ms = idle_s * 1000.0
    if event.ts <= profile.last + idle_ms:
        for one in reversed(profile.sessions):
            if one.start - idle_ms <= event.ts <= one.last + idle_ms:
                return one.id
    return f"{_UNNAMED}{event.ts}"


def begins_session(profile: Profile, event: Event, idle_s: float) -> bool:
    """Whether the shopper of this event comes, or comes back, with it."""
    return _find(profile.sessions, session_of(profile, event, idle_s)) is None


def _link(linked: dict[str, str], event: Event, session: str, most: int) -> tuple[dict[str, str], list[Output]]:
    """Once a session, tell the visitor whose device this is that it is that user."""
    visitor, user = event.visitor_id, event.user_id
    if not visitor or not user or visitor == user or linked.get(visitor) == session:
        return linked, []
    others = [(name, told) for name, told in linked.items() if name != visitor]
    linked = dict([*others, (visitor, session)][-most:])
    return linked, [Output("identity", visitor, Link(1, visitor, user, event.ts))]


def _did(
    profile: Profile, event: Event, lines: Sequence[Line], mark: int, name: str, session: Session | None,
    linked: dict[str, str], settings: ProfileSettings,
) -> Profile:  # fmt: skip
    """The profile after something was done in the session of this name, with these items."""
    act, ts = ACT_OF.get(event.name), event.ts
    sessions, touches, searches = profile.sessions, profile.touches, profile.searches
    baskets, basket_items = profile.baskets, profile.basket_items
    first_basket, last_basket = profile.first_basket, profile.last_basket
    if act is not Act.SHOWN:
        sessions = _enter(sessions, name, session, event, lines, settings)
        if act is not None:
            touches = _touch(touches, act, ts, lines, settings.touches)
    if act is Act.BUY:
        baskets, basket_items = baskets + 1, basket_items + len(lines)
        first_basket, last_basket = min(first_basket or ts, ts), max(last_basket, ts)
    if event.name == "search" and event.search_term:
        searches = (*searches, event.search_term)[-settings.searches :]
    first, last = min(profile.first or ts, ts), max(profile.last, ts)
    memory = _recall(profile.memory, event, lines, settings.items)
    seen = (*profile.seen, mark)[-settings.seen :]
    return Profile(
        1, first, last, touches, memory, sessions, baskets, basket_items, first_basket, last_basket, searches, seen,
        linked,
    )  # fmt: skip


def _touch(touches: tuple[Touch, ...], act: Act, ts: int, lines: Sequence[Line], most: int) -> tuple[Touch, ...]:
    """The recent acts with these, oldest first also when they came late."""
    after = touches + tuple([Touch(line.item_id, int(act), ts) for line in lines])
    if touches and touches[-1].ts > ts:
        after = tuple(sorted(after, key=lambda touch: touch.ts))
    return after[-most:]


def _recall(before: dict[str, Memory], event: Event, lines: Sequence[Line], most: int) -> dict[str, Memory]:
    memory = dict(before)
    for line in lines:
        memory[line.item_id] = _remember(memory.get(line.item_id, _NEVER), event, line)
    return _most_recent(memory, most) if len(memory) > most else memory


def _repeats(event: Event, lines: Sequence[Line], memory: dict[str, Memory]) -> list[Output]:
    """Signals for each item that was bought before: that it is bought again, and how long that took."""
    known = [line.item_id for line in lines if line.item_id in memory and memory[line.item_id].buys]
    waits = [(item, waited(event.ts - memory[item].last_buy)) for item in known]
    again = [_tell(Signal(1, item, "again", event.ts)) for item in known]
    return [*again, *[_tell(Signal(1, item, "wait", event.ts, wait)) for item, wait in waits if wait]]


def waited(ms: int) -> float:
    """Log of the seconds, in eighths: sums of these are the same in whatever order they are added."""
    return round(8.0 * math.log1p(max(0, ms) / 1000.0)) / 8.0


def _distinct(lines: Sequence[Line]) -> Sequence[Line]:
    """Lines of the same item as one, their quantities added."""
    if len(lines) < 2:
        return lines
    merged: dict[str, Line] = {}
    for line in lines:
        before = merged.get(line.item_id)
        if before is not None:
            line = msgspec.structs.replace(line, quantity=before.quantity + line.quantity)
        merged[line.item_id] = line
    return list(merged.values())


def _find(sessions: Sequence[Session], session: str) -> Session | None:
    for one in reversed(sessions):
        if one.id == session:
            return one
    return None


def _remember(m: Memory, event: Event, line: Line) -> Memory:
    name, ts = event.name, event.ts
    if name == "view_item_list":
        return msgspec.structs.replace(m, shown=m.shown + 1)  # being shown is not something the shopper did
    first, last = (min(m.first, ts) if m.first else ts), max(m.last, ts)
    if name == "purchase":
        first_buy = min(m.first_buy, ts) if m.first_buy else ts
        units, last_buy = m.units + line.quantity, max(m.last_buy, ts)
        return Memory(
            m.views, m.clicks, m.carts, m.buys + 1, units, 0, first, last, first_buy, last_buy, m.opinion, m.hidden
        )
    views, clicks, carts, shown = m.views, m.clicks, m.carts, m.shown
    buys, units, opinion, hidden = m.buys, m.units, m.opinion, m.hidden
    if name == "view_item":
        views, shown = views + 1, 0
    elif name == "select_item":
        clicks, shown = clicks + 1, 0
    elif name == "add_to_cart":
        carts += 1
    elif name == "refund":
        buys, units = max(0, buys - 1), max(0.0, units - line.quantity)
    elif name in FEEDBACK:
        opinion, hidden = _opinion(event, m)
    return Memory(
        views, clicks, carts, buys, units, shown, first, last, m.first_buy, m.last_buy, opinion, hidden
    )  # fmt: skip


def _opinion(event: Event, m: Memory) -> tuple[float, bool]:
    """What is thought of an item after feedback, and whether it is hidden."""
    if event.name == "like":
        return 1.0, False
    if event.name == "dislike":
        return -1.0, m.hidden
    if event.name == "hide":
        return -1.0, True
    if event.name == "rating" and event.rating is not None:
        return (event.rating - 3.0) / 2.0, m.hidden
    return m.opinion, m.hidden


def _enter(
    sessions: tuple[Session, ...], name: str, before: Session | None, event: Event, lines: Sequence[Line],
    settings: ProfileSettings,
) -> tuple[Session, ...]:  # fmt: skip
    """The sessions with this event in its own one; begun sessions stay in order of their start."""
    items = dict(before.items) if before else {}
    act = ACT_OF.get(event.name)
    for line in lines:
        if event.name == "remove_from_cart":
            if items.get(line.item_id) == Act.CART:
                items[line.item_id] = int(Act.VIEW)
        elif act is not None:
            items[line.item_id] = max(items.get(line.item_id, 0), int(act))
    if len(items) > settings.session_items:
        items = dict(list(items.items())[-settings.session_items :])
    if before is None:
        after = Session(name, event.ts, event.ts, items)
        rest = sessions
    else:
        after = Session(name, min(before.start, event.ts), max(before.last, event.ts), items)
        rest = tuple([one for one in sessions if one is not before])
    if rest and rest[-1].start > after.start:
        return tuple(sorted((*rest, after), key=lambda one: (one.start, one.id)))[-settings.sessions :]
    return (*rest, after)[-settings.sessions :]


def _most_recent(memory: dict[str, Memory], most: int) -> dict[str, Memory]:
    """What was bought is remembered before what was only looked at.

    A tenth more than has to go is dropped, so that a full memory is not sorted at every event.
    """
    ranked = sorted(memory.items(), key=lambda pair: (pair[1].buys > 0, pair[1].last, pair[0]))
    return dict(ranked[-max(1, most - most // 10) :])


def _signals(event: Event, lines: Sequence[Line], session: Session | None, settings: NeighbourSettings) -> list[Output]:
    signal = SIGNAL_OF.get(event.name, "")
    if event.name == "rating" and event.rating is not None:
        signal = "like" if event.rating > 3 else "dislike" if event.rating < 3 else ""
    paired = _PAIRED.get(event.name)
    if paired is None:
        return [_tell(Signal(1, one.item_id, signal, event.ts, 1.0, one.price or 0.0)) for one in lines if signal]
    return _with_partners(event.ts, signal, *paired, lines, session, settings)


def _with_partners(
    ts: int, signal: str, relation: str, group: Act, lines: Sequence[Line], session: Session | None,
    settings: NeighbourSettings,
) -> list[Output]:  # fmt: skip
    """Signals of items that are seen, carted or bought together; a pair is told to both its items.

    A pair of one basket of n items weighs 1 / n: an item's whole basket then weighs about as much
    as any other one, however large it is.
    """
    before = [item for item, act in session.items.items() if act >= group] if session else []
    known = session.items if session and group is Act.VIEW else set(before)
    earlier = tuple(before[-(settings.window if group is Act.VIEW else settings.partners) :])
    fresh = tuple([line.item_id for line in lines if line.item_id not in known])
    places = {item: place for place, item in enumerate(fresh)}
    weight = 1.0 if group is Act.VIEW else 1.0 / max(1, len(fresh) + len(earlier))
    news = fresh[: settings.partners]
    outputs = []
    for line in lines:
        place = places.get(line.item_id)
        partners = _around(fresh, place, settings.partners) if place is not None else ()
        if place is not None and place < len(news):
            partners += earlier
        told = Signal(
            1, line.item_id, signal, ts, 1.0, line.price or 0.0, relation, partners, weight, place is not None
        )
        outputs.append(_tell(told))
    if news:
        outputs += [_tell(Signal(1, old, "", ts, 0.0, 0.0, relation, news, weight, False)) for old in earlier]
    return outputs


def _around(basket: tuple[str, ...], place: int, most: int) -> tuple[str, ...]:
    """Up to `most` others of a basket: those nearest in it, as in a ring, so that pairs are mutual."""
    if len(basket) <= most + 1:
        return basket[:place] + basket[place + 1 :]
    half = most // 2
    return tuple([basket[(place + step) % len(basket)] for step in range(-half, half + 1) if step])


def _tell(signal: Signal) -> Output:
    return Output("item-signals", signal.item, signal)


def _give_away(profile: Profile, link: Link) -> tuple[Profile, Sequence[Output]]:
    """Hand a visitor's profile to the user; the visitor starts anew, remembering only the event ids."""
    if not profile.last:
        return profile, ()
    return Profile(seen=profile.seen), [Output("identity", link.user, Absorb(1, link.visitor, profile))]


def merge(mine: Profile, other: Profile, settings: ProfileSettings) -> Profile:
    """One profile of two people who turned out to be one."""
    memory = dict(mine.memory)
    for item, theirs in other.memory.items():
        ours = memory.get(item)
        memory[item] = theirs if ours is None else _merge_memory(ours, theirs)
    touches = sorted(mine.touches + other.touches, key=lambda touch: touch.ts)
    return Profile(
        first=min(mine.first or other.first, other.first or mine.first),
        last=max(mine.last, other.last),
        touches=tuple(touches[-settings.touches :]),
        memory=_most_recent(memory, settings.items) if len(memory) > settings.items else memory,
        sessions=_merge_sessions(mine.sessions, other.sessions, settings.idle_s)[-settings.sessions :],
        baskets=mine.baskets + other.baskets,
        basket_items=mine.basket_items + other.basket_items,
        first_basket=min(mine.first_basket or other.first_basket, other.first_basket or mine.first_basket),
        last_basket=max(mine.last_basket, other.last_basket),
        searches=(other.searches + mine.searches)[-settings.searches :],
        seen=tuple(dict.fromkeys(other.seen + mine.seen))[-settings.seen :],
        linked=mine.linked,
    )


def _merge_memory(a: Memory, b: Memory) -> Memory:
    later = a if a.last >= b.last else b
    return Memory(
        a.views + b.views, a.clicks + b.clicks, a.carts + b.carts, a.buys + b.buys, a.units + b.units,
        a.shown + b.shown, min(a.first or b.first, b.first or a.first), max(a.last, b.last),
        min(a.first_buy or b.first_buy, b.first_buy or a.first_buy), max(a.last_buy, b.last_buy),
        later.opinion or a.opinion or b.opinion, later.hidden if later.opinion else a.hidden or b.hidden,
    )  # fmt: skip


def _merge_sessions(mine: Sequence[Session], other: Sequence[Session], idle_s: float) -> tuple[Session, ...]:
    """Both lists by start; a session that went on through the login is one, under the id it has since."""
    merged = {one.id: one for one in mine}
    for one in other:
        same = merged.get(one.id)
        merged[one.id] = one if same is None else _joined(one, same, one.id)
    joined: list[Session] = []
    kept = {one.id for one in mine}
    for one in sorted(merged.values(), key=lambda one: (one.start, one.id)):
        if joined and _went_on(joined[-1], one, idle_s):
            name = one.id if one.id in kept else joined[-1].id
            joined[-1] = _joined(joined[-1], one, name)
        else:
            joined.append(one)
    return tuple(joined)


def _went_on(one: Session, later: Session, idle_s: float) -> bool:
    """Whether two sessions that only time tells apart have too little of it between them."""
    unnamed = one.id.startswith(_UNNAMED) and later.id.startswith(_UNNAMED)
    return unnamed and later.start - one.last <= idle_s * 1000.0


def _joined(one: Session, later: Session, name: str) -> Session:
    items = dict(one.items)
    for item, act in later.items.items():
        items[item] = max(act, items.get(item, 0))
    return Session(name, min(one.start, later.start), max(one.last, later.last), items)
