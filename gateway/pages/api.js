// The HTTP interface as this page uses it, and who is shopping.

const VISITOR = "headwater.visitor";
const CART = "headwater.cart.";

export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function read(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function write(key, value) {
  try { localStorage.setItem(key, value); } catch { /* a private window: nothing outlives the page */ }
}

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError("the shop cannot be reached", 0);
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(body.error?.message ?? `the shop answered ${response.status}`, response.status);
  return body;
}

export function get(path, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(pairs).toString();
  return call(text ? `${path}?${text}` : path);
}

export function post(path, body) {
  return call(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export const itemPath = (id, what = "") => `/v1/items/${encodeURIComponent(id)}${what}`;

// Somebody shopping: a visitor this browser made up, or one of the shoppers the demonstration knows.
export class Shopper {
  constructor(user = null) {
    this.user = user;
    this.visitor = read(VISITOR) || Shopper.#fresh();
  }

  static #fresh() {
    const id = `visitor-${randomId()}`;
    write(VISITOR, id);
    return id;
  }

  static forget() {
    Shopper.#fresh();
    return new Shopper();
  }

  get id() { return this.user?.id ?? this.visitor; }
  get name() { return this.user?.name ?? "You, a visitor"; }

  // Never both: that would tell the shop that this browser belongs to the shopper.
  get who() { return this.user ? { user_id: this.user.id } : { visitor_id: this.visitor }; }

  event(name, fields) {
    return { name, event_id: randomId(), ...this.who, ...fields };
  }

  // Lines of the basket: {id, title, price, quantity}.
  get cart() {
    try { return JSON.parse(read(CART + this.id) ?? "[]"); } catch { return []; }
  }

  set cart(lines) { write(CART + this.id, JSON.stringify(lines)); }
}
