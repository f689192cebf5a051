// What the shop knows of you: what was sent, what is kept of it, and what the list rests on.

import { get } from "./api.js";
import { byId, h, plural } from "./dom.js";
import { art, titled } from "./tiles.js";

const SIGNS = {
  view_item: "◉", select_item: "↗", add_to_cart: "+", remove_from_cart: "−", purchase: "✓", like: "♥",
  hide: "✕", search: "⌕", view_item_list: "≡",
};
const WORDS = {
  view_item: "looked at", select_item: "picked", add_to_cart: "put into the basket", remove_from_cart: "took out again",
  purchase: "bought", like: "liked", hide: "do not want", search: "searched for", view_item_list: "was shown",
};
const RESTS = {
  viewed: "what you looked at", looked: "what you looked at before", carted: "what was in your basket", bought_with: "what is bought together", seen_with: "what is looked at together",
  carted_with: "what shares a basket", again: "what you buy again", similar: "what reads alike",
  sessions: "visits like this one", trending: "what sells now", new: "what is new",
};
const KEPT = 30;

export class Panel {
  #sent = [];

  clear() {
    this.#sent = [];
    this.#drawSent();
  }

  // Notes events that are on their way; the returned function says how it ended.
  sending(events, titles) {
    const entries = events.map((event) => ({ event, title: titles(event), at: new Date(), state: "sending", why: "" }));
    this.#sent.unshift(...entries.toReversed());
    this.#sent.length = Math.min(this.#sent.length, KEPT);
    this.#drawSent();
    return (refused, failure) => {
      for (const [index, entry] of entries.entries()) {
        const reason = failure ?? refused?.find((one) => one.index === index)?.reason;
        entry.state = reason ? "refused" : "accepted";
        entry.why = reason ?? "";
      }
      this.#drawSent();
    };
  }

  #drawSent() {
    const entries = this.#sent.map((entry) =>
      h(
        "li",
        { class: `sent ${entry.state}`, data: { name: entry.event.name } },
        h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[entry.event.name] ?? "·"),
        h("span", {}, `${WORDS[entry.event.name] ?? entry.event.name} `, h("b", {}, entry.title), entry.why && h("em", {}, entry.why)),
        h("time", { datetime: entry.at.toISOString() }, entry.at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false })),
      ),
    );
    byId("sent").replaceChildren(...entries);
    byId("sent-none").hidden = entries.length > 0;
  }

  drawShopper(shopper) {
    byId("who-note").textContent = shopper.user?.note ?? shopper.visitor.slice(0, 20);
    byId("who-mark").textContent = shopper.user ? shopper.user.name.slice(0, 1).toUpperCase() : "?";
  }

  drawReasons(reply) {
    const counts = new Map();
    for (const item of reply.items) {
      const code = item.reasons?.[0]?.code;
      if (code) counts.set(code, (counts.get(code) ?? 0) + 1);
    }
    const bars = [...counts].sort((a, b) => b[1] - a[1]).map(([code, count]) =>
      h(
        "li",
        { class: "rest" },
        h("span", {}, RESTS[code] ?? code),
        h("span", { class: "bar", vars: { "--share": count / reply.items.length }, "aria-hidden": "true" }),
        h("span", { class: "number" }, String(count)),
      ),
    );
    byId("rests").replaceChildren(...bars);
    byId("made").textContent = `Made in ${reply.took_ms.toFixed(1)} ms by ${reply.ranker || "the engine"}, bundle ${reply.bundle || "none"}.`;
  }

  // Where the demonstration does not run there is no profile to show, and the part stays away.
  async drawProfile(shopper) {
    let known;
    try {
      known = await get(`/v1/demo/profiles/${encodeURIComponent(shopper.id)}`);
    } catch {
      byId("kept-part").hidden = true;
      return;
    }
    byId("kept-part").hidden = false;
    const items = known.items.slice(0, 12).map((item) =>
      h("li", { class: "kept" }, art(item, "tiny"), h("span", {}, h("b", {}, titled(item)), h("small", {}, acts(item)))),
    );
    byId("kept").replaceChildren(...items);
    byId("kept-none").hidden = items.length > 0;
    byId("searched").textContent = known.searches?.length ? `Searched for: ${known.searches.join(", ")}` : "";
  }
}

function acts(item) {
  const parts = [];
  if (item.hidden) parts.push("not wanted");
  if (item.opinion > 0) parts.push("liked");
  if (item.views) parts.push(`seen ${item.views}×`);
  if (item.carts) parts.push(`in the basket ${item.carts}×`);
  if (item.buys) parts.push(`bought ${plural(item.buys, "time")}`);
  return parts.join(" · ") || "shown";
}
