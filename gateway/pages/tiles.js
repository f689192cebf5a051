// One product as a tile, and the strips that hold them.

import { calm, h, plural } from "./dom.js";

let money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2 });

export function setCurrency(currency) {
  try { money = new Intl.NumberFormat(undefined, { style: "currency", currency }); } catch { /* keep plain numbers */ }
}

export const priced = (price) => (price === null || price === undefined ? "" : money.format(price));
export const titled = (item) => item.title || item.item_id;

function hueOf(item) {
  const hue = Number(item.attributes?.hue);
  if (Number.isFinite(hue)) return hue;
  let sum = 0;
  for (const letter of item.categories?.[0] ?? item.item_id) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}

// A product's picture; where there is none, its emoji or initials on its own colour.
export function art(item, size = "") {
  const emoji = typeof item.attributes?.emoji === "string" ? item.attributes.emoji : "";
  const initials = titled(item).split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
  const drawn = h("span", { class: emoji ? "glyph" : "glyph initials", "aria-hidden": "true" }, emoji || initials);
  const box = h("span", { class: `art ${size}`, vars: { "--hue": hueOf(item) } }, drawn);
  if (/^(https?:\/\/|\/(?!\/))/.test(item.image ?? "")) {
    const image = h("img", { src: item.image, alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove());
    box.append(image);
  }
  return box;
}

function iconButton(label, sign, act) {
  return h("button", { class: "icon", type: "button", "aria-label": label, title: label, onclick: act }, sign);
}

// `acts` holds open(item, place), add(item), and for personal lists hide(item).
export function tile(item, acts) {
  const reason = item.reasons?.[0]?.text;
  const link = h(
    "a",
    { class: "tile-link", href: `#/item/${encodeURIComponent(item.item_id)}` },
    art(item),
    h("span", { class: "tile-title" }, titled(item)),
    h("span", { class: "tile-price" }, priced(item.price)),
    reason && h("span", { class: "reason" }, reason),
  );
  const element = h(
    "li",
    { class: "tile", data: { id: item.item_id } },
    link,
    h("span", { class: "change", hidden: true }),
    h(
      "div",
      { class: "tile-acts" },
      acts.hide && iconButton(`Not for me: ${titled(item)}`, "✕", () => acts.hide(item)),
      iconButton(`Add ${titled(item)} to the basket`, "+", () => acts.add(item)),
    ),
  );
  link.addEventListener("click", () => acts.open(item, [...element.parentNode.children].indexOf(element)));
  return element;
}

export function fill(list, items, acts) {
  list.replaceChildren(...items.map((item) => tile(item, acts)));
}

// Puts a new list in place of the old one: what stays moves to its new place, what is new appears,
// and both say so. Returns how many are new, up and gone.
export function renew(list, items, acts, { compare = true } = {}) {
  const before = new Map([...list.children].map((element) => [element.dataset.id, element.getBoundingClientRect()]));
  const focused = document.activeElement?.closest?.(".tile")?.dataset.id;
  const changes = { fresh: 0, up: 0, gone: 0 };
  const first = before.size === 0 || !compare;
  // Places among those that stay: when one item goes, the rest has not moved up.
  const ids = new Set(items.map((item) => item.item_id));
  const was = new Map([...before.keys()].filter((id) => ids.has(id)).map((id, place) => [id, place]));
  let stays = 0;
  const elements = items.map((item) => {
    const element = tile(item, acts);
    if (first) return element;
    if (!before.has(item.item_id)) {
      changes.fresh += mark(element, "new", "new");
      return element;
    }
    const up = was.get(item.item_id) - stays++;
    if (up > 0) changes.up += mark(element, "up", `↑ ${up}`, `up by ${up}`);
    return element;
  });
  changes.gone = first ? 0 : before.size - was.size;
  list.replaceChildren(...elements);
  if (focused && ids.has(focused)) list.querySelector(`[data-id="${CSS.escape(focused)}"] a`)?.focus({ preventScroll: true });
  if (!first && !calm()) for (const element of elements) settle(element, before.get(element.dataset.id));
  return changes;
}

function mark(element, kind, text, spoken = text) {
  const badge = element.querySelector(".change");
  badge.hidden = false;
  badge.replaceChildren(h("span", { "aria-hidden": "true" }, text), h("span", { class: "unseen" }, spoken));
  element.dataset.change = kind;
  return 1;
}

function settle(element, from) {
  const to = element.getBoundingClientRect();
  const timing = { duration: 520, easing: "cubic-bezier(.2,.8,.2,1)" };
  if (!from) {
    element.animate([{ opacity: 0, transform: "translateY(14px) scale(.96)" }, { opacity: 1, transform: "none" }], timing);
  } else if (Math.abs(from.left - to.left) + Math.abs(from.top - to.top) > 2) {
    element.animate([{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }, { transform: "none" }], timing);
  }
}

// Places of the tiles that can be seen, moving or not.
export function visible(list) {
  const box = list.getBoundingClientRect();
  if (box.top >= innerHeight || box.bottom <= 0) return [];
  const edge = list.scrollLeft + list.clientWidth;
  const inside = (tile) => {
    const middle = tile.offsetLeft - list.offsetLeft + tile.offsetWidth / 2;
    return middle > list.scrollLeft && middle < edge;
  };
  return [...list.children].flatMap((tile, place) => (inside(tile) ? [place] : []));
}

export function said(changes) {
  const parts = [];
  if (changes.fresh) parts.push(`${changes.fresh} new`);
  if (changes.up) parts.push(`${changes.up} moved up`);
  if (!parts.length && changes.gone) parts.push(plural(changes.gone, "item") + " gone");
  return parts.length ? parts.join(", ") : "no change";
}
