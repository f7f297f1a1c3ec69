import { draw, top } from "./heat.js";

const byId = (id) => document.getElementById(id);
const make = (name, kind, text) => {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
};
const FOUND = 12;
let key = sessionStorage.getItem("key") || "";
let model = null; // what /v1/models says of it
let picture = null; // {url: data URI, name}
let seen = null; // {image, grid}: what the canvas shows
let turn = 0; // of the newest search; older ones are dropped

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = "Bearer " + key;
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  let answer, content;
  try {
    answer = await fetch(path, options);
    content = await answer.json();
  } catch {
    throw new Refused(0, answer ? `The endpoint failed (status ${answer.status}).` : "The endpoint doesn't answer. Does it still run?");
  }
  if (!answer.ok) throw new Refused(answer.status, content.error ? content.error.message : `status ${answer.status}`);
  return content;
}

function say(text, bad = false) {
  byId("message").textContent = text;
  byId("message").className = bad ? "bad" : "soft";
}

// An error in words; a key that is asked for opens the panel for it.
function tell(error) {
  if (error.status !== 401) {
    say(error.message, true);
    return;
  }
  say("");
  byId("unlock").hidden = false;
  byId("ask").hidden = byId("examples").hidden = true;
  byId("keymessage").textContent = key ? "This key isn't known here. Check that it is complete." : "";
  byId("about").textContent = "Locked";
  byId("key").focus();
}

async function start() {
  try {
    model = (await call("/v1/models")).data[0];
  } catch (error) {
    byId("about").textContent = "";
    tell(error);
    return;
  }
  sessionStorage.setItem("key", key);
  byId("unlock").hidden = true;
  byId("ask").hidden = false;
  const entries = model.index_entries;
  const held = entries ? ` · ${entries.toLocaleString("en")} pictures` : "";
  byId("about").replaceChildren(model.id, held, make("span", "aside", ` · ${model.dimensions} dimensions`));
  adapt();
  if (!entries) {
    byId("title").textContent = "See where the model looks";
    byId("lead").textContent = "Give a picture, and words to look for if you like. No index is served here, so there is nothing to search; the endpoint's option --index gives one.";
    return;
  }
  if (!matchMedia("(pointer: coarse)").matches) byId("text").focus({ preventScroll: true }); // no keyboard over a phone's page
  call("/v1/index").then(offer, () => {}); // examples are a help: without them the page works
}

function offer(index) {
  for (const caption of index.captions) {
    const chip = make("button", "", caption);
    chip.type = "button";
    chip.addEventListener("click", () => {
      take(null);
      byId("text").value = caption;
      search();
    });
    byId("captions").append(chip);
  }
  for (const entry of index.pictures) {
    const thumb = make("button", "thumb");
    thumb.type = "button";
    thumb.setAttribute("aria-label", `Search with this picture: ${entry.caption}`);
    thumb.append(imageOf(entry.thumbnail));
    thumb.addEventListener("click", () => like(entry));
    byId("pictures").append(thumb);
  }
  byId("captions").hidden = !index.captions.length;
  byId("pictures").hidden = !index.pictures.length;
  byId("examples").hidden = !index.captions.length && !index.pictures.length;
}

function imageOf(source) {
  const image = make("img");
  image.src = source;
  image.alt = "";
  return image;
}

function isPicture(source) {
  return typeof source === "string" && source.startsWith("data:image/");
}

// Search with an entry's own picture, and no words.
function like(entry) {
  byId("text").value = "";
  take({ url: entry.thumbnail, name: entry.caption || "A picture of the index" });
  window.scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  search();
}

function take(given) {
  picture = given;
  byId("given").hidden = !given;
  byId("choosename").textContent = given ? "Another picture" : "Add a picture";
  byId("file").value = "";
  if (given) {
    byId("preview").src = given.url;
    byId("preview").alt = `Your picture: ${given.name}`;
    byId("picturename").textContent = given.name;
  } else {
    byId("preview").removeAttribute("src");
    hideSeen();
  }
  adapt();
}

// What the one button does, and the hint in the field, follow what is given.
function adapt() {
  const searches = !model || model.index_entries > 0;
  byId("text").placeholder = picture || !searches ? "Add words (optional)" : "What the picture shows";
  byId("search").textContent = searches ? "Search" : "Show attention";
}

function hideSeen() {
  seen = null;
  byId("seen").hidden = true;
  byId("found").classList.remove("both");
}

function show(rows) {
  byId("results").replaceChildren(...rows.map((row) => {
    const card = make("button");
    card.type = "button";
    if (isPicture(row.thumbnail)) {
      const frame = make("span", "picture");
      frame.append(imageOf(row.thumbnail));
      card.append(frame);
      card.setAttribute("aria-describedby", "scale");
      card.addEventListener("click", () => like(row));
    } else card.disabled = true;
    const bar = make("span", "bar"), filled = make("i");
    filled.style.width = `${100 * Math.min(1, Math.max(0, row.score))}%`;
    bar.append(filled);
    const score = make("span", "score", row.score.toFixed(3));
    score.append(bar);
    card.append(make("span", "fact", row.caption || ""), score);
    const item = make("li");
    item.append(card);
    return item;
  }));
  byId("listed").hidden = rows.length === 0;
}

async function look(mine, text) {
  const body = { image: picture.url };
  if (text) body.text = text;
  const image = imageOf(picture.url);
  const [{ data: grid }] = await Promise.all([call("/v1/attention", body), image.decode()]);
  if (mine !== turn) return;
  seen = { image, grid };
  redraw();
  byId("most").textContent = `${top(grid).toFixed(1)} × average`;
  const square = image.naturalWidth === image.naturalHeight ? "" : " It sees the central square; the pale rest is cut off.";
  byId("explain").textContent = (text ? `The last layer's attention to the picture, with the words “${text}”.` : "The last layer's attention to the picture.") + square;
  byId("seen").hidden = false;
  byId("found").classList.toggle("both", !byId("listed").hidden);
}

function redraw() {
  if (seen) draw(byId("attention"), seen.image, seen.grid, byId("heat").checked);
}

async function search() {
  const text = byId("text").value.trim();
  if (!text && !picture) {
    say("Type what the picture shows, or add a picture.", true);
    byId("text").focus();
    return;
  }
  const mine = ++turn;
  hideSeen();
  if (model && !model.index_entries && !picture) {
    say("Without an index only a picture can be looked at: add one.", true);
    return;
  }
  say("Searching…");
  const query = picture ? { image: picture.url } : text;
  if (picture && text) query.text = text;
  try {
    if (!model || model.index_entries) {
      const found = await call("/v1/search", { query, k: FOUND });
      if (mine !== turn) return;
      show(found.data);
      const by = picture && text ? `your picture and “${text}” together` : picture ? "your picture" : `“${text}”`;
      say(`The ${found.data.length} nearest to ${by}.`);
    }
    if (picture) await look(mine, text);
    if (mine === turn && !byId("results").children.length) say("");
  } catch (error) {
    if (mine !== turn) return;
    show([]);
    tell(error instanceof Refused ? error : new Refused(0, "This browser can't show the picture."));
  }
}

function read(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    take({ url: reader.result, name: file.name || "The pasted picture" });
    search();
  };
  reader.onerror = () => say("The file can't be read.", true);
  reader.readAsDataURL(file);
}

byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => read(event.target.files[0]));
byId("remove").addEventListener("click", () => {
  take(null);
  byId("text").focus();
  if (byId("text").value.trim()) search();
  else {
    turn++;
    show([]);
    say("");
  }
});
byId("heat").addEventListener("change", redraw);
byId("ask").addEventListener("submit", (event) => { event.preventDefault(); search(); });
byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  start();
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) { event.preventDefault(); read(file); }
});
const dragged = (event) => [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragover", (event) => {
  if (!dragged(event)) return;
  event.preventDefault();
  byId("dropzone").hidden = false;
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) byId("dropzone").hidden = true; });
document.addEventListener("drop", (event) => {
  byId("dropzone").hidden = true;
  if (!dragged(event)) return;
  event.preventDefault();
  read(event.dataTransfer.files[0]);
});
start();
