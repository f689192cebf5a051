// The larger parts of the shop: shelves by category, one product, the basket. What a click means is given.

import { h } from "./dom.js";
import { art, fill, priced, titled } from "./tiles.js";

const depth = (path) => path.split(" > ").length;

// Shelves that `load(path)` fills, with chips to choose a category ("" for all).
export function browse(categories, start, load, acts) {
  const grid = h("ul", { class: "grid", id: "grid" });
  const none = h("p", { class: "none", hidden: true }, "There is nothing here yet.");
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Categories" });
  let chosen = start;
  const choose = async (path) => {
    chosen = path;
    drawChips(chips, categories, path, choose);
    const items = await load(path);
    if (chosen !== path) return;
    fill(grid, items, acts);
    none.hidden = items.length > 0;
  };
  choose(start);
  return h("section", { class: "browse" }, h("div", { class: "head" }, h("h2", {}, "All products")), chips, grid, none);
}

function drawChips(chips, categories, chosen, choose) {
  const top = chosen.split(" > ")[0];
  const chip = (path, label, kind = "") =>
    h("button", { class: `chip ${kind}`, type: "button", "aria-pressed": String(path === chosen || path === top), data: { path }, onclick: () => choose(path) }, label);
  const wide = categories.filter((path) => depth(path) === 1);
  const narrow = top ? categories.filter((path) => path.startsWith(`${top} > `) && depth(path) === 2) : [];
  const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.path : null;
  chips.replaceChildren(h("div", { class: "chip-row" }, chip("", "Everything"), ...wide.map((path) => chip(path, path))));
  if (narrow.length) chips.append(h("div", { class: "chip-row" }, ...narrow.map((path) => chip(path, path.split(" > ")[1], "narrow"))));
  if (focused !== null) chips.querySelector(`[data-path="${CSS.escape(focused)}"]`)?.focus();
}

// `acts` holds add, like and hide.
export function details(item, acts) {
  const like = h("button", { class: "button", type: "button", "aria-pressed": "false" }, "♥ Like");
  like.addEventListener("click", () => {
    if (like.getAttribute("aria-pressed") === "true") return;
    like.setAttribute("aria-pressed", "true");
    acts.like();
  });
  const hide = h("button", { class: "button quiet", type: "button" }, "Not for me");
  hide.addEventListener("click", () => {
    hide.disabled = true;
    acts.hide();
  });
  const add = h("button", { class: "button primary", type: "button", id: "add", onclick: acts.add }, "Add to the basket");
  return h(
    "article",
    { class: "product" },
    art(item, "large"),
    h(
      "div",
      { class: "product-text" },
      crumbs(item.categories?.[0]),
      h("h1", { id: "product-title" }, titled(item)),
      item.brand && h("p", { class: "brand-line" }, item.brand),
      h("p", { class: "big-price" }, priced(item.price), item.in_stock === false && h("span", { class: "out" }, "out of stock")),
      item.description && h("p", { class: "words" }, item.description),
      facts(item.attributes),
      h("div", { class: "product-acts" }, add, like, hide),
    ),
  );
}

function crumbs(path) {
  const names = path ? path.split(" > ") : [];
  const links = names.flatMap((name, place) => {
    const wide = names.slice(0, place + 1).join(" > ");
    return [" › ", h("a", { href: `#/category/${encodeURIComponent(wide)}` }, name)];
  });
  return h("p", { class: "crumbs" }, h("a", { href: "#/" }, "All products"), ...links);
}

function facts(attributes = {}) {
  const told = Object.entries(attributes).filter(([name]) => name !== "emoji" && name !== "hue");
  if (!told.length) return null;
  const text = (value) => (Array.isArray(value) ? value.join(", ") : String(value));
  return h("dl", { class: "facts" }, ...told.slice(0, 8).map(([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, text(value)))));
}

export function emptyBasket() {
  return h("div", { class: "cart card" }, h("h1", {}, "Your basket"), h("p", { class: "none" }, "It is empty."));
}

// `acts` holds takeOut(line) and buy.
export function basket(cart, acts) {
  const total = cart.reduce((sum, line) => sum + line.price * line.quantity, 0);
  const lines = cart.map((line) =>
    h(
      "li",
      { class: "cart-line" },
      art(line.item ?? { item_id: line.id }, "small"),
      h("a", { href: `#/item/${encodeURIComponent(line.id)}` }, line.title),
      h("span", { class: "quantity" }, `${line.quantity} ×`),
      h("span", { class: "number" }, priced(line.price * line.quantity)),
      h("button", { class: "icon", type: "button", "aria-label": `Take out ${line.title}`, title: "Take out", onclick: () => acts.takeOut(line) }, "✕"),
    ),
  );
  return h(
    "div",
    { class: "cart card" },
    h("h1", {}, "Your basket"),
    h("ul", {}, ...lines),
    h("p", { class: "total" }, h("span", {}, "Total"), h("b", {}, priced(total))),
    h("button", { class: "button primary", type: "button", id: "buy", onclick: acts.buy }, "Buy"),
    h("p", { class: "fine" }, "Nothing is charged: this sends a purchase event."),
  );
}
