// Draws /openapi.json for people.

import { byId, h } from "./dom.js";

const REF = "#/components/schemas/";

function kind(schema = {}) {
  if (schema.$ref) {
    const name = schema.$ref.slice(REF.length);
    return h("a", { href: `#${name}` }, name);
  }
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return joined(schema.anyOf.map(kind));
  if (schema.type === "array") return h("span", {}, "array of ", kind(schema.items));
  if (schema.type === "object" && schema.additionalProperties) return h("span", {}, "object of ", kind(schema.additionalProperties));
  return schema.type ?? "anything";
}

function joined(parts) {
  return h("span", {}, ...parts.flatMap((part, place) => (place ? [" or ", part] : [part])));
}

function rows(entries) {
  return h("div", { class: "scroll" }, h("table", {}, h("tbody", {}, ...entries.map(([name, type, text]) => h("tr", {}, h("td", {}, h("code", {}, name)), h("td", { class: "kind" }, type), h("td", {}, text))))));
}

function parameters(list) {
  return rows(list.map((one) => [one.name, h("span", {}, kind(one.schema), one.required ? ", needed" : ""), one.description || (one.in === "path" ? "In the path; encode what is not a letter or digit." : "")]));
}

const content = (of) => Object.values(of?.content ?? {})[0]?.schema;

function replies(of) {
  return rows(Object.entries(of).map(([status, one]) => [status, content(one) ? kind(content(one)) : "text", one.description]));
}

function route(path, method, operation) {
  return h(
    "article",
    { class: "route card", id: `${method}-${path}` },
    h("h2", {}, h("span", { class: `method ${method}` }, method), path),
    h("p", { class: "lead" }, operation.summary),
    operation.description && h("p", {}, operation.description),
    operation.parameters && h("h3", {}, "Parameters"),
    operation.parameters && parameters(operation.parameters),
    operation.requestBody && h("h3", {}, "Body"),
    operation.requestBody && h("p", {}, kind(content(operation.requestBody))),
    h("h3", {}, "Replies"),
    replies(operation.responses),
  );
}

function shape(name, schema) {
  const needed = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([field, of]) => [field, h("span", {}, kind(of), needed.has(field) ? ", needed" : ""), of.description ?? ""]);
  return h(
    "article",
    { class: "route shape card", id: name },
    h("h2", {}, name),
    schema.description && h("p", {}, schema.description),
    fields.length ? rows(fields) : h("p", {}, kind(schema)),
  );
}

async function draw() {
  const api = await fetch("/openapi.json").then((reply) => reply.json());
  byId("about").textContent = api.info.description;
  const operations = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, of]) => [path, method, of]));
  byId("contents").append(...operations.map(([path, method]) => h("a", { href: `#${method}-${path}` }, h("span", { class: `method ${method}` }, method), path)));
  byId("routes").append(
    ...operations.map((one) => route(...one)),
    h("h2", { class: "shape-title" }, "Shapes"),
    ...Object.entries(api.components.schemas).map(([name, schema]) => shape(name, schema)),
  );
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

draw();
