// The page of `jaxhash serve`. It shows what the fragment of its address says (#offset=, #id= or #code=, each with
// &label=), so links, back, forward, reload and bookmarks need no code of their own. Names of files and labels may
// hold anything: they are set as text, never as HTML.

const PAGE = 60; // items that are asked for at a time
const MOST_LABELS = 500; // options in the list of labels, which is narrowed by typing

const find = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
const previews = new Map(); // code of an upload -> its name and, of an image, the address of its bytes
const MOST_PREVIEWS = 50;
let health = { name: "jaxhash", takes: "images" };
let labels = [];
let shown = { key: null, items: 0, status: "", isNames: false }; // what the list holds: names, or images too
let turn = 0; // of the newest request: answers to older ones are dropped

// ---------------------------------------------------------------- address

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const view = { id: given.get("id"), code: given.get("code"), label: given.get("label") };
  const offset = Number.parseInt(given.get("offset"), 10);
  return { ...view, offset: offset > 0 ? offset : 0, isSearch: (view.id ?? view.code) !== null };
}

function toAddress(view) {
  const given = new URLSearchParams();
  for (const key of ["id", "code", "label", "offset"]) {
    if (view[key] || view[key] === 0) given.set(key, view[key]);
  }
  if (given.get("offset") === "0") given.delete("offset");
  return `#${given}`;
}

// ---------------------------------------------------------------- server

async function ask(path, given = {}, options = {}, again = true) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value != null));
  let response;
  try {
    response = await fetch(`${path}?${query}`, options);
  } catch {
    throw new Error("the server does not answer: has jaxhash serve ended?");
  }
  if (again && (response.status === 429 || response.status === 503)) {
    await new Promise((done) => setTimeout(done, 1000 * (response.headers.get("Retry-After") || 1)));
    return ask(path, given, options, false);
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `the server answers ${response.status}`);
  return answer;
}

// Runs what asks the server and draws; an error is shown, and `clear` says whether it empties the list.
async function attempt(work, clear = false) {
  const mine = ++turn;
  const isNewest = () => mine === turn;
  const wait = setTimeout(() => { find("status").textContent = "Waiting for the server …"; }, 1000);
  find("main").setAttribute("aria-busy", "true");
  try {
    await work(isNewest);
    if (isNewest()) find("error").hidden = true;
  } catch (error) {
    if (!isNewest()) return;
    fail(error);
    if (clear) drawList({ key: null, heading: "Nothing to show", items: [], total: 0, status: "" });
    else find("status").textContent = shown.status;
  } finally {
    clearTimeout(wait);
    if (isNewest()) find("main").removeAttribute("aria-busy");
  }
}

function fail(error) {
  find("error").textContent = printable(error.message);
  find("error").hidden = false;
}

// ---------------------------------------------------------------- text

// What does not print, or turns the direction of what follows, is escaped.
function printable(text) {
  return String(text).replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (c) =>
    `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
}

const ofLabel = (view) => (view.label ? " of the label" : "");

const fileName = (path) => printable(path.slice(path.lastIndexOf("/") + 1) || path);

// Sets a name as text that may break after what separates its words.
function setName(element, name) {
  const words = name.split(/(?<=[-_.])/).flatMap((word) => [word, document.createElement("wbr")]);
  element.replaceChildren(...words);
}

function describe(item) {
  const distance = item.distance === undefined ? [] : [`distance ${item.distance}`];
  const label = item.label === null ? [] : [`label ${printable(item.label)}`];
  return [fileName(item.path), ...label, ...distance].join(", ");
}

// ---------------------------------------------------------------- items

function makeItem(item, view) {
  const element = find("item").content.firstElementChild.cloneNode(true);
  const link = element.firstElementChild;
  link.href = toAddress({ id: item.id, label: view.label });
  link.title = printable(item.path);
  if (view.id === String(item.id)) link.setAttribute("aria-current", "true");
  const [frame, facts] = link.children;
  const [image] = frame.children;
  if (item.distance !== undefined) facts.children[0].textContent = `distance ${item.distance}`;
  facts.children[1].textContent = printable(item.label ?? "");
  setName(facts.children[2], fileName(item.path));
  const useNames = () => {
    frame.replaceChildren(Object.assign(document.createElement("span"), { className: "missing" }));
    frame.firstElementChild.textContent = "no image";
    facts.removeAttribute("aria-hidden");
  };
  if (shown.isNames) frame.remove();
  else if (!item.has_image) useNames();
  else {
    facts.setAttribute("aria-hidden", "true"); // the text of the image says it
    loadImage(image, `/items/${item.id}/thumbnail`, describe(item), useNames);
  }
  return element;
}

// Loads an image; small ones, which are enlarged, keep their pixels.
function loadImage(image, source, alt, fail) {
  image.onload = () => image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= 48);
  image.onerror = fail;
  image.alt = alt;
  image.src = source;
}

// Shows a list, or adds to the one that is shown if it has the same key.
function drawList({ key, heading, items, total, status, note = "", view = readAddress() }) {
  const isMore = key !== null && key === shown.key;
  const isNames = isMore ? shown.isNames : !items.some((item) => item.has_image);
  shown = { key, items: (isMore ? shown.items : 0) + items.length, status, isNames };
  const elements = items.map((item) => makeItem(item, view));
  if (isMore) find("items").append(...elements);
  else find("items").replaceChildren(...elements);
  find("items").classList.toggle("names", isNames);
  find("heading").textContent = heading;
  document.title = key === "" ? health.name : `${heading} · ${health.name}`;
  find("note").textContent = note;
  find("status").textContent = status;
  find("more").hidden = !view.isSearch || shown.items >= total;
  find("pages").hidden = view.isSearch || total <= PAGE;
  if (isMore) elements[0]?.firstElementChild.focus();
}

function drawQuery(view, item, code) {
  const preview = previews.get(code);
  find("query").hidden = !view.isSearch;
  if (!view.isSearch) return;
  const name = item ? item.path : preview?.name ?? "A code";
  const source = item ? item.has_image && `/items/${item.id}/image` : preview?.source;
  find("picture").replaceChildren();
  if (source) {
    const image = new Image();
    find("picture").append(image);
    loadImage(image, source, `Query: ${printable(name)}`, () => image.remove());
  }
  setName(find("query-name"), printable(name));
  const facts = item ? [`id ${item.id}`, printable(item.label ?? "")] : [];
  find("query-label").textContent = facts.filter(Boolean).join(" · ");
  find("code").lastElementChild.textContent = code;
}

// ---------------------------------------------------------------- views

function drawSearch(answer, view, item) {
  const { code, total, ties, results } = answer;
  const name = item ? fileName(item.path) : previews.get(code)?.name ?? `code ${code.slice(0, 8)}`;
  const until = answer.offset + results.length;
  const nearest = total < answer.items_in_all ? `the ${count(total)} nearest of ` : "";
  const left = ties && until >= total ? ties.total - ties.shown : 0;
  drawQuery(view, item, code);
  drawList({
    key: toAddress(view), view, items: results, total,
    heading: `Nearest to ${printable(name)}`,
    status: `${count(until)} of ${nearest}${count(answer.items_in_all)} items${ofLabel(view)}`,
    note: left ? `${count(left)} more are at distance ${ties.distance}: items that tie are in order of id.` : "",
  });
}

async function search(view, offset, limit, isNewest) {
  const given = { id: view.id, code: view.code, label: view.label, offset, limit };
  const [answer, item] = await Promise.all([
    ask("/search", given), view.id === null ? null : ask(`/items/${encodeURIComponent(view.id)}`)]);
  if (isNewest()) drawSearch(answer, view, item);
}

async function browse(view, isNewest) {
  const given = { offset: view.offset, limit: PAGE, label: view.label };
  const { total, offset, items } = await ask("/items", given);
  if (!isNewest()) return;
  const until = offset + items.length;
  const range = items.length ? `${count(offset + 1)} to ${count(until)}` : "None";
  if (!view.label) drawFacts(total);
  drawQuery(view);
  drawList({
    key: toAddress(view).slice(1), view, items, total,
    heading: view.label ? `Items of label ${printable(view.label)}` : "Items",
    status: `${range} of ${count(total)} items${ofLabel(view)}`,
    note: total ? "" : "The index holds no items yet; jaxhash index DIR --add adds some.",
  });
  turnPage("previous", view, offset > 0, Math.max(0, offset - PAGE));
  turnPage("next", view, until < total, until);
  find("from").value = offset + 1;
  find("from").max = total;
}

function turnPage(id, view, isThere, offset) {
  if (isThere) find(id).href = toAddress({ ...view, offset });
  else find(id).removeAttribute("href");
}

function show({ focus = true } = {}) {
  const view = readAddress();
  const { limit = PAGE, scroll = 0 } = history.state ?? {};
  drawLabels();
  return attempt(async (isNewest) => {
    shown.key = null;
    if (view.isSearch) await search(view, 0, limit, isNewest);
    else await browse(view, isNewest);
    if (!isNewest()) return;
    scrollTo(0, scroll);
    if (focus && document.activeElement === document.body) find("heading").focus({ preventScroll: true });
  }, true);
}

// ---------------------------------------------------------------- what a user does

function upload(file) {
  const isImage = health.takes === "images";
  const label = readAddress().label;
  find("status").textContent = `Searching by ${printable(file.name)} …`;
  return attempt(async (isNewest) => {
    const body = isImage ? file : JSON.stringify({ vector: readVector(await file.text()) });
    const headers = { "Content-Type": isImage ? "application/octet-stream" : "application/json" };
    const answer = await ask("/search", { label, limit: PAGE }, { method: "POST", body, headers });
    if (!isNewest()) return;
    keepPreview(answer.code, { name: file.name, source: isImage ? URL.createObjectURL(file) : null });
    const view = { id: null, code: answer.code, label, isSearch: true };
    if (location.hash !== toAddress(view)) history.pushState(null, "", toAddress(view));
    shown.key = null;
    drawSearch(answer, view, null);
    scrollTo(0, 0);
    find("heading").focus({ preventScroll: true });
  });
}

function keepPreview(code, preview) {
  const oldest = previews.size < MOST_PREVIEWS ? code : previews.keys().next().value;
  for (const stale of new Set([code, oldest])) {
    URL.revokeObjectURL(previews.get(stale)?.source);
    previews.delete(stale);
  }
  previews.set(code, preview);
}

function readVector(text) {
  try {
    return JSON.parse(text.trim().startsWith("[") ? text : `[${text.trim().split(/[\s,;]+/)}]`);
  } catch {
    throw new Error("this is no vector: numbers are taken, as [0.5, -1, 2]");
  }
}

function uploadFirst(data) {
  const file = data.files[0];
  const text = data.getData("text/plain");
  if (file) upload(file);
  else if (health.takes === "vectors" && text) upload(new File([text], "a vector"));
}

function drawLabels() {
  const chosen = readAddress().label;
  const typed = find("narrow").value.toLowerCase();
  const found = labels.filter(({ label }) => label === chosen || label.toLowerCase().includes(typed));
  const options = found.slice(0, MOST_LABELS).map(({ label, items }) =>
    new Option(`${printable(label)} (${count(items)})`, label, false, label === chosen));
  if (chosen !== null && !options.some((option) => option.selected)) {
    options.push(new Option(printable(chosen), chosen, false, true));
  }
  const left = found.length - MOST_LABELS;
  if (left > 0) options.push(new Option(`${count(left)} more: type to find them`));
  if (left > 0) options.at(-1).disabled = true;
  find("label").replaceChildren(new Option("All", "", false, chosen === null), ...options);
}

function go(change) {
  location.hash = toAddress({ ...readAddress(), ...change });
}

function listen() {
  addEventListener("hashchange", () => show());
  addEventListener("scrollend", () => history.replaceState({ ...history.state, scroll: scrollY }, ""));
  addEventListener("paste", (event) => {
    if (!event.target.matches?.("input")) uploadFirst(event.clipboardData);
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    find("drop").hidden = !event.dataTransfer.types.includes("Files");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("drop").hidden = true; });
  addEventListener("drop", (event) => {
    event.preventDefault();
    find("drop").hidden = true;
    uploadFirst(event.dataTransfer);
  });
  find("choose").onclick = () => find("file").click();
  find("file").onchange = () => {
    if (find("file").files.length) upload(find("file").files[0]);
    find("file").value = ""; // the same file may be chosen again
  };
  find("random").onclick = () => attempt(async () => {
    const { label } = readAddress();
    const { total } = await ask("/items", { label, limit: 1 });
    const { items } = await ask("/items", { label, limit: 1, offset: Math.floor(Math.random() * total) });
    if (items.length) go({ id: items[0].id, code: null });
  });
  find("narrow").oninput = drawLabels;
  find("label").onchange = () => go({ offset: 0, label: find("label").value });
  find("from").onchange = () => go({ offset: Math.max(0, find("from").value - 1) });
  find("more").onclick = () => attempt(async (isNewest) => {
    await search(readAddress(), shown.items, PAGE, isNewest);
    history.replaceState({ ...history.state, limit: Math.max(PAGE, shown.items) }, "");
  });
}

function drawFacts(items) {
  find("facts").textContent = `${count(items)} items, ${health.bits} bits`;
  for (const id of ["choose", "random", "hint"]) find(id).hidden = !items;
}

async function start() {
  history.scrollRestoration = "manual";
  listen();
  const asked = ask("/labels").then((answer) => {
    labels = answer;
    find("labels").hidden = !labels.length;
    find("narrow").hidden = labels.length <= 100;
    drawLabels();
  });
  await attempt(async () => {
    health = await ask("/health");
    find("name").textContent = printable(health.name);
    const [what, accept] = health.takes === "images" ? ["an image", "image/*"] : ["a vector", ""];
    find("choose").textContent = `Search by ${what}`;
    find("drop").textContent = `Drop ${what} to search by it`;
    find("hint").textContent = `Or paste or drop ${what}; choose an item to search by it.`;
    find("file").accept = accept;
    drawFacts(health.items);
  });
  await show({ focus: false });
  await asked.catch(fail);
}

start();
