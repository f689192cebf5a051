// The shop: what is on the page, and which event each click becomes.

import { ApiError, Shopper, get, itemPath, post, randomId } from "./api.js";
import { byId, h, plural } from "./dom.js";
import { Panel } from "./panel.js";
import { basket, browse, details, emptyBasket } from "./parts.js";
import { fill, priced, renew, said, setCurrency, titled, visible } from "./tiles.js";

const LONG = 12; // items of a strip
const panel = new Panel();
const titles = new Map();

let shop = { name: "Shop", currency: "EUR", max_n: 100 };
let shopper = new Shopper();
let shoppers = [];
let categories = [];
let category = "";
let opened = null; // the product on the page
let picked = null; // the list a product was just picked from
let asked = 0;
let first = true;
let shown = { recommendation_id: "", items: [] };

// ---- events -----------------------------------------------------------------------------------

async function tell(events, { refresh = true } = {}) {
  const done = panel.sending(events, subject);
  try {
    const reply = await post("/v1/events", { events });
    done(reply.refused);
    trouble("");
  } catch (error) {
    done(null, error.message);
    trouble(error.message);
    return false;
  }
  if (refresh) await renewList();
  return true;
}

function subject(event) {
  if (event.name === "search") return `“${event.search_term}”`;
  if (event.items) return plural(event.items.length, "item");
  return titles.get(event.item_id) ?? event.item_id;
}

function trouble(message) {
  byId("trouble").hidden = !message;
  byId("trouble").textContent = message ? `Something is wrong: ${message}.` : "";
}

function remember(items) {
  for (const item of items) titles.set(item.item_id, titled(item));
  return items;
}

// ---- the personal list ------------------------------------------------------------------------

async function renewList({ compare = true } = {}) {
  const turn = ++asked;
  const left_out = [...shopper.cart.map((line) => line.id), ...(opened ? [opened.item_id] : [])];
  let reply;
  try {
    reply = await post("/v1/recommendations", { ...shopper.who, n: LONG, placement: "for-you", exclude: left_out });
  } catch (error) {
    if (turn === asked) trouble(error.message);
    return;
  }
  if (turn !== asked) return;
  const same = reply.items.map((item) => item.item_id).join() === shown.items.map((item) => item.item_id).join();
  shown = reply;
  remember(reply.items);
  const changes = renew(byId("for-you"), reply.items, personal, { compare });
  byId("for-you-none").hidden = reply.items.length > 0;
  byId("pulse").textContent = first || !compare ? "" : `Updated: ${said(changes)}`;
  byId("pulse").classList.toggle("quiet", !(changes.fresh || changes.up));
  first = false;
  panel.drawReasons(reply);
  panel.drawProfile(shopper);
  if (!same) impression(reply);
}

// Tells which items of the list could be seen, without asking for another one.
function impression(reply) {
  const items = visible(byId("for-you")).map((index) => ({ item_id: reply.items[index].item_id, index }));
  if (!items.length) return;
  tell(
    [shopper.event("view_item_list", { items, recommendation_id: reply.recommendation_id, placement: "for-you" })],
    { refresh: false },
  );
}

const personal = {
  open: (item, index) => { picked = { item, index, placement: "for-you", recommendation_id: shown.recommendation_id }; },
  add: (item) => addToCart(item, shown.recommendation_id),
  hide: (item) => tell([shopper.event("hide", { item_id: item.item_id, recommendation_id: shown.recommendation_id })]),
};

const plainActs = (placement) => ({
  open: (item, index) => { picked = { item, index, placement }; },
  add: (item) => addToCart(item),
});

// ---- basket -----------------------------------------------------------------------------------

function addToCart(item, recommendation_id) {
  const cart = shopper.cart;
  const line = cart.find((one) => one.id === item.item_id);
  if (line) line.quantity += 1;
  else cart.push({ id: item.item_id, title: titled(item), price: item.price ?? 0, quantity: 1, item: slim(item) });
  shopper.cart = cart;
  drawCount();
  toast(`${titled(item)} is in the basket`);
  remember([item]);
  return tell([shopper.event("add_to_cart", { item_id: item.item_id, quantity: 1, price: item.price ?? undefined, recommendation_id })]);
}

const slim = (item) => ({
  item_id: item.item_id, title: item.title, image: item.image, categories: item.categories,
  attributes: { emoji: item.attributes?.emoji, hue: item.attributes?.hue },
});

async function takeOut(line) {
  shopper.cart = shopper.cart.filter((one) => one.id !== line.id);
  drawCount();
  const sent = tell([shopper.event("remove_from_cart", { item_id: line.id, quantity: line.quantity })]);
  drawCart();
  await sent;
}

async function buy() {
  const cart = shopper.cart;
  const value = cart.reduce((sum, line) => sum + line.price * line.quantity, 0);
  const items = cart.map((line) => ({ item_id: line.id, quantity: line.quantity, price: line.price }));
  const event = shopper.event("purchase", { items, value, currency: shop.currency, transaction_id: `demo-${randomId()}` });
  shopper.cart = [];
  if (!(await tell([event]))) {
    shopper.cart = cart;
    return;
  }
  drawCount();
  toast(`Bought: ${plural(cart.length, "product")} for ${priced(value)}`);
  location.hash = "#/";
}

function drawCount() {
  const count = shopper.cart.reduce((sum, line) => sum + line.quantity, 0);
  byId("cart-count").textContent = count;
  byId("cart-count").classList.toggle("some", count > 0);
}

// ---- views ------------------------------------------------------------------------------------

function view(...children) {
  byId("view").replaceChildren(...children);
  byId("view").hidden = children.length === 0;
}

function section(title, list) {
  return h("section", {}, h("div", { class: "head" }, h("h2", {}, title), list.className === "strip" && arrows(list)), list);
}

// For a mouse, which cannot swipe.
function arrows(list) {
  const by = (way) => list.scrollBy({ left: way * list.clientWidth * 0.8, behavior: "smooth" });
  const arrow = (sign, label, way) => h("button", { class: "icon", type: "button", "aria-label": label, onclick: () => by(way) }, sign);
  return h("span", { class: "arrows" }, arrow("‹", "Back", -1), arrow("›", "On", 1));
}

// A strip that fills itself and takes itself away when there is nothing to show.
function strip(title, load, placement) {
  const list = h("ul", { class: "strip" });
  const whole = section(title, list);
  whole.hidden = true;
  load()
    .then((reply) => {
      fill(list, remember(reply.items), plainActs(placement));
      whole.hidden = reply.items.length === 0;
    })
    .catch((error) => { if (error.status !== 404) trouble(error.message); });
  return whole;
}

const trending = () => strip("Trending", () => get("/v1/trending", { n: LONG }), "trending");

function home() {
  document.title = shop.name;
  view();
  const shelves = browse(categories, category, async (path) => {
    category = path;
    try {
      return remember((await get("/v1/trending", { n: Math.min(shop.max_n, 60), category: path })).items);
    } catch (error) {
      trouble(error.message);
      return [];
    }
  }, plainActs("category"));
  byId("below").replaceChildren(trending(), shelves);
}

async function product(id) {
  const from = picked?.item.item_id === id ? picked : null;
  picked = null;
  let item;
  try {
    item = await get(itemPath(id));
  } catch (error) {
    view(h("p", { class: "none" }, error.status === 404 ? "This product is not in the shop any more." : ""));
    if (error.status !== 404) trouble(error.message);
    byId("below").replaceChildren(trending());
    return;
  }
  if (current() !== id) return;
  opened = item;
  document.title = `${titled(item)} · ${shop.name}`;
  remember([item]);
  const recommendation_id = from?.recommendation_id;
  view(details(item, {
    add: () => addToCart(item, recommendation_id),
    like: () => tell([shopper.event("like", { item_id: id, recommendation_id })]),
    hide: () => tell([shopper.event("hide", { item_id: id, recommendation_id })]).then(() => toast("You will not be shown this again")),
  }));
  if (!first) focusTitle();
  byId("below").replaceChildren(
    strip("Bought together", () => get(itemPath(id, "/bought-together"), { n: LONG }), "bought-together"),
    strip("Similar to this", () => get(itemPath(id, "/similar"), { n: LONG }), "similar"),
  );
  const events = [];
  if (from) events.push(shopper.event("select_item", { item_id: id, index: from.index, placement: from.placement, recommendation_id }));
  events.push(shopper.event("view_item", { item_id: id, price: item.price ?? undefined, recommendation_id }));
  await tell(events);
}

function drawCart() {
  const cart = shopper.cart;
  document.title = `Basket · ${shop.name}`;
  if (!cart.length) {
    view(emptyBasket());
    byId("below").replaceChildren(trending());
    return;
  }
  view(basket(cart, { takeOut, buy }));
  const ids = cart.map((line) => line.id);
  const load = () => post("/v1/recommendations", { ...shopper.who, n: LONG, placement: "basket", context_items: ids, exclude: ids });
  byId("below").replaceChildren(strip("To go with your basket", load, "basket"));
}

async function search(text) {
  document.title = `${text} · ${shop.name}`;
  byId("query").value = text;
  const list = h("ul", { class: "grid" });
  const none = h("p", { class: "none", hidden: true }, "Nothing was found. Try other words: the search goes by meaning.");
  view(section(`Results for “${text}”`, list), none);
  byId("below").replaceChildren(trending());
  tell([shopper.event("search", { search_term: text })]);
  try {
    const reply = await get("/v1/search", { q: text, n: LONG });
    fill(list, remember(reply.items), plainActs("search"));
    none.hidden = reply.items.length > 0;
  } catch (error) {
    trouble(error.message);
  }
}

// ---- where we are -----------------------------------------------------------------------------

function parts() {
  const [, what = "", ...rest] = location.hash.split("/");
  try { return [what, decodeURIComponent(rest.join("/"))]; } catch { return ["", ""]; }
}

const current = () => { const [what, value] = parts(); return what === "item" ? value : null; };

// After a click the old place of the keyboard is gone: it goes on at the new title.
function focusTitle() {
  const title = byId("view").querySelector("h1");
  if (title) {
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
  }
}

async function go({ quiet = false } = {}) {
  const [what, value] = parts();
  opened = null;
  if (!quiet) scrollTo({ top: 0 });
  if (what === "item" && value) return product(value);
  if (what === "search" && value.trim()) return search(value.trim());
  if (what === "cart") {
    drawCart();
    if (!quiet) focusTitle();
  } else {
    category = what === "category" && categories.includes(value) ? value : category;
    home();
    if (what === "category") byId("grid").closest("section").scrollIntoView();
  }
  return renewList({ compare: !quiet });
}

// ---- who is shopping --------------------------------------------------------------------------

function become(next) {
  shopper = next;
  asked += 1; // an answer still under way is the other one's
  first = true;
  shown = { recommendation_id: "", items: [] };
  panel.clear();
  panel.drawShopper(shopper);
  byId("shopper").value = shopper.user?.id ?? "";
  drawCount();
  byId("for-you").replaceChildren();
  if (current()) location.hash = "#/";
  else go({ quiet: true });
}

function drawSwitch() {
  const options = [h("option", { value: "" }, "You, a visitor"), ...shoppers.map((one) => h("option", { value: one.id }, one.name))];
  byId("shopper").replaceChildren(...options);
  byId("shopper").disabled = shoppers.length === 0;
}

let fading;
function toast(text) {
  byId("toast").textContent = text;
  byId("toast").classList.add("on");
  clearTimeout(fading);
  fading = setTimeout(() => byId("toast").classList.remove("on"), 2600);
}

function setPanel(open) {
  byId("panel").classList.toggle("open", open);
  byId("veil").hidden = !open;
  byId("panel-open").setAttribute("aria-expanded", String(open));
  (open ? byId("panel-close") : byId("panel-open")).focus();
}

function listen() {
  addEventListener("hashchange", () => go());
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("query").value.trim();
    if (!text) return;
    const hash = `#/search/${encodeURIComponent(text)}`;
    if (location.hash === hash) search(text);
    else location.hash = hash;
  });
  byId("shopper").addEventListener("change", (event) => {
    become(new Shopper(shoppers.find((one) => one.id === event.target.value) ?? null));
  });
  byId("forget").addEventListener("click", () => {
    become(Shopper.forget());
    toast("You are a new visitor: nothing is known of you");
  });
  byId("panel-open").addEventListener("click", () => setPanel(true));
  byId("panel-close").addEventListener("click", () => setPanel(false));
  byId("veil").addEventListener("click", () => setPanel(false));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && byId("panel").classList.contains("open")) setPanel(false);
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "")) {
      event.preventDefault();
      byId("query").focus();
    }
  });
}

async function start() {
  listen();
  byId("for-you-head").append(arrows(byId("for-you")));
  drawSwitch();
  panel.drawShopper(shopper);
  drawCount();
  try {
    const [about, tree, known] = await Promise.all([get("/v1/shop"), get("/v1/categories"), get("/v1/demo/shoppers")]);
    shop = about;
    categories = tree.categories;
    shoppers = known.shoppers;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    trouble(error.message);
  }
  setCurrency(shop.currency);
  byId("shop-name").textContent = shop.name;
  drawSwitch();
  await go({ quiet: true });
}

start();
