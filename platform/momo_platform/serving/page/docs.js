const here = location.origin;
const make = (name, kind, ...inside) => {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.append(...inside);
  return element;
};

// What is shown where the endpoint has the call; `locked` ones name the key.
function examples(locked) {
  const key = locked ? " \\\n  -H \"Authorization: Bearer $KEY\"" : "";
  const json = `${key} \\\n  -H 'Content-Type: application/json'`;
  return [
    ["Texts", "/v1/embeddings", `curl ${here}/v1/embeddings${json} \\\n  -d '{"input": ["a red apple", "a tree"]}'`],
    ["A picture, as a file", "/v1/embeddings/upload", `curl ${here}/v1/embeddings/upload${key} \\\n  -F image=@apple.png`],
    ["A picture, as JSON; with a text it is a pair", "/v1/embeddings", `echo '{"input": [{"image": "data:image/png;base64,'$(base64 < apple.png | tr -d '\\n')'",\n  "text": "a red apple"}]}' |\ncurl ${here}/v1/embeddings${json} -d @-`],
    ["The nearest pictures of the index", "/v1/search", `curl ${here}/v1/search${json} \\\n  -d '{"query": "a red apple", "k": 5}'`],
    ["Documents in the order of their nearness to a query", "/v1/rerank", `curl ${here}/v1/rerank${json} \\\n  -d '{"query": "fruit", "documents": ["a red apple", "a tree"]}'`],
    ["With OpenAI's Python client", "/v1/embeddings", `from openai import OpenAI\n\nclient = OpenAI(base_url="${here}/v1", api_key=${locked ? "KEY" : "\"none\""})\nmodel = client.models.list().data[0].id\nanswer = client.embeddings.create(model=model, input=["a red apple"])\nprint(answer.data[0].embedding[:4])`],
  ];
}

function code(text) {
  const copy = make("button", "", "Copy");
  copy.type = "button";
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch { // no clipboard for pages by plain HTTP from other hosts
      getSelection().selectAllChildren(copy.nextElementSibling);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return make("div", "example", copy, make("pre", "", text));
}

// Words with `code` in them, as the document has it.
const prose = (text) => text.split("`").map((part, i) => (i % 2 ? make("code", "", part) : part));

const nameOf = (reference) => reference.split("/").pop();

// A schema's kind in words, such as "text", "list of Embedding".
function kindOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  const several = schema.anyOf || schema.oneOf;
  if (several) return [...new Set(several.map(kindOf))].filter((one) => one !== "null").join(" or ");
  if (schema.type === "array") return `list of ${kindOf(schema.items) || "anything"}`;
  const words = { string: "text", integer: "whole number", boolean: "true or false", object: "object", null: "null" };
  if (schema.format === "binary" || schema.contentMediaType === "application/octet-stream") return "file";
  return words[schema.type] || schema.type || "anything";
}

function fieldsOf(schema) {
  const list = make("dl");
  for (const [name, field] of Object.entries(schema.properties || {})) {
    const needed = (schema.required || []).includes(name) ? ", required" : "";
    const other = field.const === undefined && field.default !== undefined && field.default !== null ? `, ${JSON.stringify(field.default)} where not given` : "";
    list.append(make("dt", "", make("code", "", name), " ", make("span", "", kindOf(field) + needed + other)));
    if (field.description) list.append(make("dd", "", ...prose(field.description)));
  }
  return list;
}

// Every schema that this one names, itself first, each once.
function named(schema, all, found = new Map()) {
  for (const [, name] of JSON.stringify(schema || {}).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    if (found.has(name) || !all[name]) continue;
    found.set(name, all[name]);
    named(all[name], all, found);
  }
  return found;
}

function part(title, content, all) {
  const schema = content && Object.values(content)[0] && Object.values(content)[0].schema;
  const found = [...named(schema, all)].filter(([, one]) => one.properties);
  return found.flatMap(([name, one], i) => [make("h3", "", i ? name : `${title}: ${name}`), ...(one.description && i ? [make("p", "soft", ...prose(one.description))] : []), fieldsOf(one)]);
}

function cardOf(path, method, call, all) {
  const verb = make("span", "verb", method.toUpperCase());
  const about = call.description || call.summary || "";
  const codes = Object.keys(call.responses).filter((one) => one !== "200");
  const inside = make("div", "inside",
    ...part("Takes", (call.requestBody || {}).content, all),
    ...part("Answers", (call.responses["200"] || {}).content, all));
  if (codes.length) inside.append(make("p", "soft", `Errors, with OpenAI's JSON: ${codes.join(", ")}.`));
  if (!inside.children.length) inside.append(make("p", "soft", "Takes nothing; answers plain text."));
  return make("details", "call", make("summary", "", make("code", "", verb, ` ${path}`), make("span", "", ...prose(about))), inside);
}

async function start() {
  const calls = document.getElementById("calls");
  try {
    const [api, models] = await Promise.all([fetch("/openapi.json").then((one) => one.json()), fetch("/v1/models")]);
    document.getElementById("title").textContent = api.info.title;
    document.getElementById("about").textContent = here;
    const locked = models.status === 401;
    const shown = examples(locked).filter(([, path]) => api.paths[path]);
    if (locked) document.getElementById("examples").append(make("p", "", "This endpoint asks for a key: put yours into KEY."));
    document.getElementById("examples").append(...shown.flatMap(([title, , text]) => [make("h3", "", title), code(text)]));
    const all = (api.components || {}).schemas || {};
    const paths = Object.entries(api.paths).sort(([a], [b]) => b.startsWith("/v1/") - a.startsWith("/v1/"));
    calls.replaceChildren(...paths.flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, one]) => cardOf(path, method, one, all))));
  } catch {
    calls.replaceChildren(make("p", "bad", "The API's document can't be read. Does the endpoint still run?"));
  }
}
start();
