"use strict";
const nameOf = (content) => {
  const schema = content && Object.values(content)[0] && Object.values(content)[0].schema;
  return schema && schema.$ref ? schema.$ref.split("/").pop() : "";
};
fetch("/openapi.json").then((answer) => answer.json()).then((api) => {
  document.getElementById("title").textContent = `${api.info.title} ${api.info.version}`;
  const body = document.getElementById("calls");
  for (const [path, calls] of Object.entries(api.paths)) {
    for (const [method, call] of Object.entries(calls)) {
      const row = body.insertRow();
      const codes = Object.keys(call.responses).filter((code) => code !== "200").join(", ");
      const cells = [
        `${method.toUpperCase()} ${path}`,
        call.description || call.summary || "",
        nameOf((call.requestBody || {}).content),
        nameOf((call.responses["200"] || {}).content) + (codes ? ` (or ${codes})` : ""),
      ];
      for (const text of cells) row.insertCell().textContent = text;
    }
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const title = document.createElement("h3");
    title.textContent = name;
    const text = document.createElement("pre");
    text.textContent = JSON.stringify(schema, null, 1);
    document.getElementById("schemas").append(title, text);
  }
});
