"""The profile step: what one shopper did, and what that says of the items.

Reads clickstream, feedback and identity, keyed by shopper. Emits item-signals, and an identity
record when a visitor turns out to be a user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from core.events import Event, Line
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
RELATION_OF: Final = {Act.VIEW: "seen", Act.CLICK: "seen", Act.CART: "carted", Act.BUY: "bought"}
_GROUP: Final = {Act.VIEW: Act.VIEW, Act.CLICK: Act.VIEW, Act.CART: Act.CART, Act.BUY: Act.BUY}


class Output(NamedTuple):
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
    event = message
    session = _session_id(profile, event, limits.profile.idle_s)
    profile, outputs = _observe_items(profile, event, session, limits)
    linked = profile.linked
    visitor, user = event.visitor_id, event.user_id
    if visitor and user and visitor != user and linked.get(visitor) != session:
        linked = {**linked, visitor: session}
        outputs.append(Output("identity", visitor, Link(1, visitor, user, event.ts)))
    searches = profile.searches
    if event.name == "search" and event.search_term:
        searches = (*searches, event.search_term)[-limits.profile.searches :]
    profile = msgspec.structs.replace(
        profile,
        first=min(profile.first, event.ts) if profile.first else event.ts,
        last=max(profile.last, event.ts),
        seen=(*profile.seen, mark)[-limits.profile.seen :],
        linked=linked,
        searches=searches,
    )
    return profile, outputs


def _observe_items(profile: Profile, event: Event, session: str, limits: Limits) -> tuple[Profile, list[Output]]:
    lines = _distinct(event.items)
    signals = _signals(event, lines, _find(profile.sessions, session), limits.neighbours)
    memory = dict(profile.memory)
    if event.name == "purchase":
        signals += [
            _tell(Signal(1, one.item_id, "again", event.ts))
            for one in lines
            if one.item_id in memory and memory[one.item_id].buys
        ]
    for line in lines:
        memory[line.item_id] = _remember(memory.get(line.item_id, Memory()), event, line)
    act = ACT_OF.get(event.name)
    touches, sessions = profile.touches, profile.sessions
    if act is not None and act is not Act.SHOWN:
        new = tuple([Touch(line.item_id, act, event.ts) for line in lines])
        touches = _in_order(touches + new, event.ts)[-limits.profile.touches :]
    if act is not Act.SHOWN:
        sessions = _enter(sessions, session, event, lines, limits.profile)
    if len(memory) > limits.profile.items:
        memory = _most_recent(memory, limits.profile.items)
    profile = msgspec.structs.replace(profile, touches=touches, memory=memory, sessions=sessions)
    if act is Act.BUY:
        profile = msgspec.structs.replace(
            profile,
            baskets=profile.baskets + 1,
            basket_items=profile.basket_items + len(lines),
            first_basket=min(profile.first_basket or event.ts, event.ts),
            last_basket=max(profile.last_basket, event.ts),
        )
    return profile, signals


def _distinct(lines: Iterable[Line]) -> list[Line]:
    """Lines of the same item as one, their quantities added."""
    merged: dict[str, Line] = {}
    for line in lines:
        before = merged.get(line.item_id)
        if before is not None:
            line = msgspec.structs.replace(line, quantity=before.quantity + line.quantity)
        merged[line.item_id] = line
    return list(merged.values())


def _session_id(profile: Profile, event: Event, idle_s: float) -> str:
    """The event's own session, or the one that has not been idle for too long, or a new one."""
    if event.session_id:
        return event.session_id
    if profile.sessions:
        latest = profile.sessions[-1]
        if -idle_s * 1000 <= event.ts - latest.last <= idle_s * 1000:
            return latest.id
    return f"~{event.ts}"


def _find(sessions: Sequence[Session], session: str) -> Session | None:
    for one in reversed(sessions):
        if one.id == session:
            return one
    return None


def _remember(m: Memory, event: Event, line: Line) -> Memory:
    name, ts = event.name, event.ts
    first, last = (min(m.first, ts) if m.first else ts), max(m.last, ts)
    if name == "purchase":
        first_buy = min(m.first_buy, ts) if m.first_buy else ts
        units, last_buy = m.units + line.quantity, max(m.last_buy, ts)
        return Memory(
            m.views, m.clicks, m.carts, m.buys + 1, units, 0, first, last, first_buy, last_buy, m.opinion, m.hidden
        )
    change: dict[str, object] = {"first": first, "last": last}
    if name == "view_item_list":
        change = {"shown": m.shown + 1}  # being shown is not something the shopper did
    elif name == "view_item":
        change |= {"views": m.views + 1, "shown": 0}
    elif name == "select_item":
        change |= {"clicks": m.clicks + 1, "shown": 0}
    elif name == "add_to_cart":
        change |= {"carts": m.carts + 1}
    elif name == "refund":
        change |= {"buys": max(0, m.buys - 1), "units": max(0.0, m.units - line.quantity)}
    elif name == "like":
        change |= {"opinion": 1.0, "hidden": False}
    elif name == "dislike":
        change |= {"opinion": -1.0}
    elif name == "hide":
        change |= {"opinion": -1.0, "hidden": True}
    elif name == "rating" and event.rating is not None:
        change |= {"opinion": (event.rating - 3.0) / 2.0}
    return msgspec.structs.replace(m, **change)


def _enter(
    sessions: tuple[Session, ...], session: str, event: Event, lines: Sequence[Line], settings: ProfileSettings
) -> tuple[Session, ...]:
    """The sessions with this event in its own one; begun sessions stay in order of their start."""
    before = _find(sessions, session)
    items = dict(before.items) if before else {}
    act = ACT_OF.get(event.name)
    for line in lines:
        if event.name == "remove_from_cart":
            if items.get(line.item_id) == Act.CART:
                items[line.item_id] = Act.VIEW
        elif act is not None and (line.item_id in items or len(items) < settings.session_items):
            items[line.item_id] = max(items.get(line.item_id, 0), int(act))
    if before is None:
        after = Session(session, event.ts, event.ts, items)
        rest = sessions
    else:
        after = Session(session, min(before.start, event.ts), max(before.last, event.ts), items)
        rest = tuple([one for one in sessions if one is not before])
    if rest and rest[-1].start > after.start:
        return tuple(sorted((*rest, after), key=lambda one: (one.start, one.id)))[-settings.sessions :]
    return (*rest, after)[-settings.sessions :]


def _in_order(touches: tuple[Touch, ...], ts: int) -> tuple[Touch, ...]:
    """Oldest first, also when an event came late."""
    late = any(touch.ts > ts for touch in touches)
    return tuple(sorted(touches, key=lambda touch: touch.ts)) if late else touches


def _most_recent(memory: dict[str, Memory], keep: int) -> dict[str, Memory]:
    """What was bought is remembered before what was only looked at."""
    ranked = sorted(memory.items(), key=lambda pair: (pair[1].buys > 0, pair[1].last, pair[0]))
    return dict(ranked[-keep:])


def _signals(
    event: Event, lines: Sequence[Line], session: Session | None, settings: NeighbourSettings
) -> list[Output]:
    signal = SIGNAL_OF.get(event.name, "")
    if event.name == "rating" and event.rating is not None:
        signal = "like" if event.rating > 3 else "dislike" if event.rating < 3 else ""
    act = ACT_OF.get(event.name)
    relation = RELATION_OF.get(act, "") if act is not None else ""
    if not relation or act is None:
        return [_tell(Signal(1, one.item_id, signal, event.ts, 1.0, one.price or 0.0)) for one in lines if signal]
    return _with_partners(event.ts, signal, relation, _GROUP[act], lines, session, settings)


def _with_partners(
    ts: int, signal: str, relation: str, group: Act, lines: Sequence[Line], session: Session | None,
    settings: NeighbourSettings,
) -> list[Output]:  # fmt: skip
    """Signals of items that are seen, carted or bought together; a pair is told to both its items.

    A pair of one basket of n items weighs 1 / n: an item's whole basket then weighs about as much
    as any other one, however large it is.
    """
    earlier = [item for item, act in session.items.items() if act >= group] if session else []
    earlier = earlier[-(settings.window if group is Act.VIEW else settings.partners) :]
    known = set(session.items) if session and group is Act.VIEW else set(earlier)
    fresh = [line.item_id for line in lines if line.item_id not in known]
    weight = 1.0 if group is Act.VIEW else 1.0 / max(1, len(fresh) + len(earlier))
    outputs = []
    for line in lines:
        item, new = line.item_id, line.item_id not in known
        partners = _around(fresh, item, settings.partners) + tuple(earlier) if new else ()
        outputs.append(
            _tell(Signal(1, item, signal, ts, 1.0, line.price or 0.0, relation, partners, weight, new))
        )
    news = tuple(fresh[: settings.partners])
    if news:
        outputs += [_tell(Signal(1, old, "", ts, 0.0, 0.0, relation, news, weight, False)) for old in earlier]
    return outputs


def _around(basket: Sequence[str], item: str, most: int) -> tuple[str, ...]:
    """Up to `most` others of a basket: those nearest in it, as in a ring, so that pairs are mutual."""
    if len(basket) <= most + 1:
        return tuple([other for other in basket if other != item])
    place, half = basket.index(item), most // 2
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
        memory=_most_recent(memory, settings.items),
        sessions=_merge_sessions(mine.sessions, other.sessions)[-settings.sessions :],
        baskets=mine.baskets + other.baskets,
        basket_items=mine.basket_items + other.basket_items,
        first_basket=min(mine.first_basket or other.first_basket, other.first_basket or mine.first_basket),
        last_basket=max(mine.last_basket, other.last_basket),
        searches=(other.searches + mine.searches)[-settings.searches :],
        seen=(other.seen + mine.seen)[-settings.seen :],
        linked=mine.linked,
    )


def _merge_memory(a: Memory, b: Memory) -> Memory:
    later = a if a.last >= b.last else b
    return Memory(
        a.views + b.views, a.clicks + b.clicks, a.carts + b.carts, a.buys + b.buys, a.units + b.units,
        a.shown + b.shown, min(a.first or b.first, b.first or a.first), max(a.last, b.last),
        min(a.first_buy or b.first_buy, b.first_buy or a.first_buy), max(a.last_buy, b.last_buy),
        later.opinion or a.opinion or b.opinion, a.hidden or b.hidden,
    )  # fmt: skip


def _merge_sessions(mine: Sequence[Session], other: Sequence[Session]) -> tuple[Session, ...]:
    """Both lists by start; a session that went on through the login is one."""
    merged = {one.id: one for one in mine}
    for one in other:
        same = merged.get(one.id)
        if same is None:
            merged[one.id] = one
            continue
        items = {item: max(act, same.items.get(item, 0)) for item, act in one.items.items()}
        merged[one.id] = Session(one.id, min(one.start, same.start), max(one.last, same.last), {**same.items, **items})
    return tuple(sorted(merged.values(), key=lambda one: (one.start, one.id)))
