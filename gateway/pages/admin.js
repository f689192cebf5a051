// Asks the process every two seconds how it is, and draws the answer.

import { get } from "./api.js";
import { byId, h, plural } from "./dom.js";

const EVERY_MS = 2_000;
const KEPT = 90; // points of a curve: three minutes
const SVG = "http://www.w3.org/2000/svg";
const TEXTS = { bundle: "bundle", bundle_before: "kept warm", shadow: "answers unseen", ranker: "ranker", encoder: "encoder" };
const NUMBERS = { items: "items", shoppers: "shoppers", vectors: "vectors", events: "events in the log", shadow_lists: "lists answered unseen" };
const history = new Map();

const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

function curve(name, value) {
  const points = history.get(name) ?? [];
  points.push(value);
  if (points.length > KEPT) points.shift();
  history.set(name, points);
  const top = Math.max(...points, 1e-9);
  const at = points.map((point, place) => `${(place * 100) / Math.max(1, points.length - 1)},${30 - (point / top) * 28}`);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [tag, list] of [["polygon", ["0,30", ...at, "100,30"]], ["polyline", at]]) {
    const shape = document.createElementNS(SVG, tag);
    shape.setAttribute("points", list.join(" "));
    svg.append(shape);
  }
  return svg;
}

const figure = (label, value, drawn = null, kind = "") =>
  h("div", { class: "figure card" }, h("b", { class: kind, title: String(value) }, value), h("span", {}, label), drawn);

function figures(engine, gateway) {
  const found = [];
  for (const [key, label] of Object.entries(TEXTS)) if (engine[key]) found.push(figure(label, engine[key], null, "text"));
  for (const [key, label] of Object.entries(NUMBERS)) if (key in engine) found.push(figure(label, number.format(engine[key])));
  const routes = gateway.routes ?? {};
  const lists = routes["/v1/recommendations"];
  found.push(figure("events a second", number.format(gateway.events_per_s), curve("events", gateway.events_per_s)));
  if ("lag_events" in engine) found.push(figure("events behind", number.format(engine.lag_events), curve("lag", engine.lag_events)));
  if ("lag_ms" in engine) found.push(figure("behind the log", `${number.format(engine.lag_ms)} ms`, curve("lag_ms", engine.lag_ms)));
  if (lists) found.push(figure("a recommendation, median", `${number.format(lists.p50_ms)} ms`, curve("p50", lists.p50_ms)));
  found.push(figure("up for", lasting(gateway.uptime_s)));
  byId("figures").replaceChildren(...found);
}

function lasting(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} days`;
}

function routes(gateway) {
  const known = Object.entries(gateway.routes ?? {});
  const slowest = Math.max(...known.map(([, one]) => one.p99_ms), 1e-9);
  const rows = known.map(([route, one]) =>
    h(
      "tr",
      {},
      h("td", {}, h("code", {}, route)),
      h("td", { class: "number" }, number.format(one.calls)),
      h("td", { class: "number" }, `${number.format(one.p50_ms)} ms`),
      h("td", { class: "number" }, `${number.format(one.p99_ms)} ms`),
      h("td", { class: "wide" }, h("span", { class: "bar", vars: { "--share": one.p99_ms / slowest } })),
    ),
  );
  byId("routes").replaceChildren(...rows);
}

function pairs(engine) {
  const plain = Object.entries(engine).filter(([key]) => key !== "dead_letters" && key !== "jobs");
  byId("pairs").replaceChildren(...plain.map(([key, value]) => h("div", {}, h("dt", {}, key.replaceAll("_", " ")), h("dd", {}, shown(value)))));
}

function shown(value) {
  if (typeof value === "number") return number.format(value);
  return typeof value === "string" ? value || "none" : JSON.stringify(value);
}

function jobs(engine) {
  const { running = null, runs = [] } = engine.jobs ?? {};
  const share = running?.total ? `, ${Math.round((100 * running.done) / running.total)} %` : "";
  byId("job").textContent = running ? `${running.what} since ${clock(running.begun_ms)}: ${running.work || "beginning"}${share}` : "No job is running here.";
  const rows = runs.map((one) =>
    h("tr", {}, h("td", { class: "number" }, clock(one.ended_ms)), h("td", {}, one.what), h("td", { class: "number" }, lasting((one.ended_ms - one.begun_ms) / 1000)), h("td", {}, one.result), h("td", { class: "wide" }, one.why ?? "")),
  );
  byId("runs").replaceChildren(...rows);
  byId("runs-box").hidden = rows.length === 0;
}

const clock = (ms) => new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short", hour12: false });

function letters(engine, gateway) {
  const refused = Object.entries(gateway.refused ?? {});
  const sum = refused.reduce((all, [, count]) => all + count, 0);
  const why = refused.map(([name, count]) => `${name.replaceAll("_", " ")} ${count}`).join(", ");
  byId("tally").textContent = sum ? `${plural(sum, "refusal")} since the start: ${why}.` : "Nothing was refused since the start.";
  const rows = (engine.dead_letters ?? []).slice(0, 20).map((one) =>
    h("tr", {}, h("td", { class: "number" }, one.ts ? new Date(one.ts).toLocaleTimeString([], { hour12: false }) : ""), h("td", {}, one.reason ?? ""), h("td", {}, h("code", {}, String(one.raw ?? "").slice(0, 160)))),
  );
  byId("letters").replaceChildren(...rows);
  byId("letters-box").hidden = rows.length === 0;
}

function state(kind, text) {
  byId("state").className = `state ${kind}`;
  if (byId("state").textContent !== text) byId("state").textContent = text;
}

async function look() {
  try {
    const { engine = {}, gateway = {} } = await get("/healthz", { details: "true" });
    byId("trouble").hidden = true;
    figures(engine, gateway);
    routes(gateway);
    pairs(engine);
    jobs(engine);
    letters(engine, gateway);
    const ready = await fetch("/readyz").then((reply) => reply.json());
    state(ready.status, ready.status === "ready" ? "ready" : `waiting: ${ready.reason}`);
  } catch (error) {
    state("away", "does not answer");
    byId("trouble").hidden = false;
    byId("trouble").textContent = error.message;
  }
  setTimeout(look, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

look();
