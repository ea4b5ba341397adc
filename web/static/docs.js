// Renders /openapi.json: every operation with its parameters, body, answers, and a form that calls it.
const METHODS = ["get", "post", "put", "patch", "delete"];
let token = "";

/** Make an element; children are nodes or text, so nothing from the document is ever read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Say a JSON Schema in a few words. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf) return schema.oneOf.map(kind).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `array of ${kind(schema.items) || "anything"}`;
  if (schema.type === "object" && schema.properties) {
    const fields = Object.entries(schema.properties);
    return fields.length ? `{${fields.map(([name, inner]) => `${name}: ${kind(inner)}`).join(", ")}}` : "object";
  }
  const type = [].concat(schema.type ?? "anything").filter((name) => name !== "null").join(" or ");
  return schema.format ? `${type} (${schema.format})` : type;
}

/** Say the bounds and the default of a JSON Schema. */
function bounds(schema) {
  const parts = [];
  if (schema.format !== "int64" && (schema.minimum !== undefined || schema.maximum !== undefined)) {
    parts.push(`${schema.minimum ?? ""}..${schema.maximum ?? ""}`);
  }
  if (schema.maxLength !== undefined) parts.push(`at most ${schema.maxLength} characters`);
  if (schema.default !== undefined) parts.push(`default ${schema.default}`);
  return parts.join(", ");
}

function parameterTable(parameters) {
  const table = element("table", {}, element("tr", {}, ...["Parameter", "Type", "", "Value"].map((text) => element("th", {}, text))));
  for (const parameter of parameters) {
    const field = element("input", { name: parameter.name, "aria-label": parameter.name });
    field.required = parameter.required;
    const notes = [parameter.required ? "required" : "", bounds(parameter.schema), parameter.description ?? ""].filter(Boolean).join("; ");
    const cells = [element("code", {}, parameter.name), kind(parameter.schema), notes, field];
    table.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  }
  return table;
}

function responseTable(responses) {
  const table = element("table", {}, element("tr", {}, ...["Status", "Meaning", "Body"].map((text) => element("th", {}, text))));
  for (const [status, response] of Object.entries(responses)) {
    const schema = response.content?.["application/json"]?.schema;
    const cells = [element("code", {}, status), response.description, element("code", {}, kind(schema))];
    table.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  }
  return table;
}

function filledPath(path, parameters, form) {
  const query = new URLSearchParams();
  for (const parameter of parameters) {
    const value = form.elements.namedItem(parameter.name).value;
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value !== "") query.set(parameter.name, value);
  }
  return query.size ? `${path}?${query}` : path;
}

async function call(method, path, parameters, form, output) {
  output.textContent = "…";
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const body = form.querySelector("textarea")?.value;
  if (body) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(filledPath(path, parameters, form), { method: method.toUpperCase(), headers, body: body || undefined });
    const text = await response.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* shown as it came */ }
    output.textContent = `${response.status} ${response.statusText}\n${shown}`;
  } catch (error) {
    output.textContent = String(error);
  }
}

function renderOperation(method, path, operation) {
  const parameters = operation.parameters ?? [];
  const form = element("form");
  const output = element("pre");
  output.hidden = true;
  if (parameters.length) form.append(parameterTable(parameters));
  const content = operation.requestBody?.content ?? {};
  if (content["application/json"]) {
    form.append(element("p", {}, "Body ", element("code", {}, kind(content["application/json"].schema))), element("textarea", { "aria-label": "Body" }));
  }
  form.append(element("button", {}, "Call"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    output.hidden = false;
    call(method, path, parameters, form, output);
  });
  const role = operation.security?.length ? operation["x-role"] ?? "logged in" : "anyone";
  return element("details", { class: "operation", id: operation.operationId ?? `${method}${path}` },
    element("summary", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()), element("code", {}, path),
      operation.summary ?? "", element("span", { class: "role" }, role)),
    element("div", {}, operation.description ?? "", form, output, responseTable(operation.responses)));
}

function render(schema) {
  const main = document.getElementById("operations");
  const groups = new Map(schema.tags.map((tag) => [tag.name, element("section", {}, element("h2", {}, tag.name.replaceAll("_", " ")), element("p", {}, tag.description ?? ""))]));
  for (const [path, item] of Object.entries(schema.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      groups.get(item[method].tags[0]).append(renderOperation(method, path, item[method]));
    }
  }
  main.replaceChildren(...groups.values());
}

const login = document.getElementById("login");
login.addEventListener("submit", async (event) => {
  event.preventDefault();
  const output = login.querySelector("output");
  const body = JSON.stringify(Object.fromEntries(new FormData(login)));
  try {
    const answer = await (await fetch("/auth/login", { method: "POST", body })).json();
    token = answer.access_token ?? "";
    output.textContent = token ? "logged in" : answer.error.message;
  } catch (error) {
    output.textContent = String(error);
  }
});

try {
  render(await (await fetch("/openapi.json")).json());
} catch (error) {
  document.getElementById("operations").textContent = `The description cannot be read: ${error}`;
}
