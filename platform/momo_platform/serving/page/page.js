"use strict";
const byId = (id) => document.getElementById(id);
const message = byId("message");
let picture = null; // {base64, url}
let turn = 0;

function say(text, bad) {
  message.textContent = text;
  message.className = bad ? "bad" : "";
}

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (byId("key").value) headers.Authorization = "Bearer " + byId("key").value;
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ? content.error.message : "status " + answer.status);
  return content;
}

async function about() {
  try {
    const model = (await call("/v1/models")).data[0];
    byId("about").textContent = `${model.id}, ${model.dimensions} dimensions, ${model.index_entries} pictures to search`;
  } catch (error) {
    byId("about").textContent = error.message;
  }
}

function show(rows) {
  const list = byId("results");
  list.replaceChildren();
  byId("nearest").hidden = rows.length === 0;
  for (const row of rows) {
    const item = document.createElement("li");
    if (row.thumbnail && row.thumbnail.startsWith("data:image/")) {
      const image = document.createElement("img");
      image.src = row.thumbnail;
      image.alt = "";
      item.append(image);
    }
    const score = document.createElement("b");
    score.textContent = row.score.toFixed(3);
    item.append(score, " " + (row.caption || ""));
    list.append(item);
  }
}

async function drawAttention(mine) {
  const body = { image: picture.base64 };
  if (byId("text").value.trim()) body.text = byId("text").value;
  const grid = (await call("/v1/attention", body)).data;
  const image = new Image();
  image.src = picture.url;
  await image.decode();
  if (mine !== turn) return;
  const canvas = byId("attention");
  const side = canvas.width;
  const context = canvas.getContext("2d");
  const cut = Math.min(image.naturalWidth, image.naturalHeight); // the model sees the central square
  context.fillStyle = "#fff";
  context.fillRect(0, 0, side, side);
  context.drawImage(image, (image.naturalWidth - cut) / 2, (image.naturalHeight - cut) / 2, cut, cut, 0, 0, side, side);
  const largest = Math.max(...grid.flat());
  const step = side / grid.length;
  grid.forEach((row, y) => row.forEach((value, x) => {
    context.fillStyle = `rgba(10, 14, 30, ${0.75 * (1 - value / largest)})`;
    context.fillRect(x * step, y * step, step + 1, step + 1);
  }));
  byId("seen").hidden = false;
}

async function search() {
  const text = byId("text").value.trim();
  if (!text && !picture) {
    say("Type a caption or give a picture.", true);
    return;
  }
  const mine = ++turn;
  say("Searching…");
  const query = picture ? { image: picture.base64 } : text;
  if (picture && text) query.text = text;
  try {
    const found = await call("/v1/search", { query, k: 12 });
    if (mine !== turn) return;
    show(found.data);
    say(`${found.data.length} nearest`);
  } catch (error) {
    if (mine === turn) { show([]); say(error.message, true); }
  }
  byId("seen").hidden = true;
  if (picture) drawAttention(mine).catch((error) => say(error.message, true));
}

function take(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    picture = { url: reader.result, base64: reader.result.slice(reader.result.indexOf(",") + 1) };
    byId("drophelp").textContent = file.name + " (drop another to replace it)";
    search();
  };
  reader.onerror = () => say("The picture can't be read.", true);
  reader.readAsDataURL(file);
}

const drop = byId("drop");
drop.addEventListener("click", () => byId("file").click());
drop.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); byId("file").click(); }
});
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
byId("file").addEventListener("change", (event) => take(event.target.files[0]));
byId("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
byId("key").addEventListener("change", about);
about();
