// The page: pick a crop, ask this server, show the ranked matches. Whatever fails ends as a sentence in `message`.

const at = (id) => document.getElementById(id);
const collections = new Map(); // by name, as the server describes them
let asked; // the question on show { picture, name }; asked again when an option changes
let running = new AbortController(); // the question under way; a newer one ends it, so that no old answer covers a new one

const DECISIONS = {
  match: "Match: the best score is high enough for this collection.",
  unsure: "Unsure: the best score may be right; look for yourself.",
  unknown: "Unknown: no score is high enough for this person to be in this collection.",
};
const NO_COLLECTION = "There is no collection to search yet. Index a folder of crops: "
  + `reid index FOLDER --collection NAME --keep-crops --url ${location.origin}`;

// Text goes in as text, never as markup: names come from files and callers.
function element(tag, text, attributes = {}) {
  const node = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(sentence, wrong = false) {
  at("message").textContent = sentence;
  at("message").classList.toggle("wrong", wrong);
}

// The answer, or an Error with the server's own sentence.
async function send(path, request) {
  const response = await fetch(path, request).catch(() => { throw new Error("The server does not answer."); });
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(detail ?? `${path}: status ${response.status}`);
}

async function getJson(path) {
  return (await send(path)).json();
}

async function showModel() {
  const { label, fingerprint } = await getJson("/v1/model");
  at("model").replaceChildren(element("strong", label), element("code", fingerprint));
}

async function showCollections() {
  for (const one of (await getJson("/v1/collections")).collections) collections.set(one.name, one);
  const text = ({ name, items }) => `${name} (${items} ${items === 1 ? "crop" : "crops"})`;
  at("collection").replaceChildren(...[...collections.values()].map((c) => element("option", text(c), { value: c.name })));
  if (!collections.size && !asked) say(NO_COLLECTION); // else the question says so, if it is still the one on show
}

async function showExamples() {
  const { examples } = await getJson("/examples");
  at("some").hidden = !examples.length;
  at("examples").replaceChildren(...examples.map((name) => {
    const source = `/examples/files/${encodeURIComponent(name)}`;
    const button = element("button", undefined, { type: "button", title: name });
    button.append(element("img", undefined, { src: source, alt: `Example ${name}` }));
    button.addEventListener("click", () => begin(async (signal) => {
      const response = await send(source, { signal });
      await ask(await response.blob(), name, signal);
      button.ariaCurrent = "true";
    }));
    return button;
  }));
}

function askFile(file) {
  begin(async (signal) => {
    const unreadable = new Error(`${file.name}: cannot be read; a picture is wanted, not a folder`);
    await file.slice(0, 1).arrayBuffer().catch(() => { throw unreadable; });
    await ask(file, file.name, signal);
  });
}

// A new question: show it, then search.
async function ask(picture, name, signal) {
  URL.revokeObjectURL(at("query").src);
  asked = { picture, name };
  Object.assign(at("query"), { src: URL.createObjectURL(picture), hidden: false });
  Object.assign(at("name"), { textContent: name, hidden: false });
  for (const button of at("examples").children) button.ariaCurrent = null;
  await search(signal);
}

async function search(signal) {
  if (!collections.size) await showCollections(); // one may have been made since
  const collection = collections.get(at("collection").value);
  if (!collection) throw new Error(NO_COLLECTION);
  const options = new URLSearchParams({ k: at("k").value });
  if (at("camera").value) options.set("camera_id", at("camera").value);
  const form = new FormData();
  form.append("image", asked.picture, asked.name);
  at("matches").classList.add("old");
  say("Searching…");
  const path = `/v1/collections/${encodeURIComponent(collection.name)}/search?${options}`;
  const response = await send(path, { method: "POST", body: form, signal });
  const { matches, decision, decision_reason, timings_ms } = await response.json();
  show(matches.map((match) => card(match, collection)), timings_ms);
  if (matches.length) {
    say("Best first. The score is the cosine of the two vectors: 1 for the same picture."
      + (matches[0].probability === null ? "" : " Likely: how probably it is the right person."));
    at("message").prepend(verdict(decision, decision_reason), " ");
  } else say(`Nothing in ${collection.name} is left to match.`);
  const below = at("matches").getBoundingClientRect().top > innerHeight - 150; // on a phone they come under the query
  if (below) at("found").scrollIntoView();
}

// What the best match means; or why nobody can tell, in the server's words. A reason beside a decision is a caveat.
function verdict(decision, reason) {
  const caveat = reason ? ` (${reason})` : "";
  return element("strong", decision ? DECISIONS[decision] + caveat : `No decision: ${reason}.`, { className: decision ?? "none" });
}

function show(cards, timings_ms = {}) {
  at("matches").classList.remove("old");
  at("matches").replaceChildren(...cards);
  at("time").textContent = Object.entries(timings_ms).map(([stage, ms]) => `${stage} ${ms.toFixed(1)} ms`).join(" · ");
}

function card(match, collection) {
  const row = element("li");
  const facts = element("dl");
  const { person_id: person, camera_id: camera, probability } = match;
  const likely = probability === null ? {} : { likely: `${(100 * probability).toFixed(1)}%` }; // the right person
  const rows = { score: match.score.toFixed(3), ...likely, person, camera };
  for (const [name, value] of Object.entries(rows)) facts.append(element("dt", name), element("dd", value ?? "unknown"));
  row.append(element("span", `${match.rank}`, { className: "rank" }), pictureOf(match, collection), facts);
  return row;
}

function pictureOf(match, collection) {
  const none = element("div", "no picture kept", { className: "none" });
  if (!collection.keep_crops) return none;
  const src = `/v1/collections/${encodeURIComponent(collection.name)}/items/${encodeURIComponent(match.id)}/crop`;
  const picture = element("img", undefined, { src, alt: `Crop of match ${match.rank}` });
  picture.addEventListener("error", () => picture.replaceWith(none));
  return picture;
}

// Begin a question, ending the one before it. A refusal takes the place of the matches.
async function begin(work) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    await work(signal);
  } catch (error) {
    if (signal.aborted) return;
    show([]);
    say(error.message, true);
  }
}

// A file dropped beside the box would otherwise be opened in place of the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
const drop = at("drop");
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", ({ dataTransfer: { files: [file] } }) => {
  drop.classList.remove("over");
  if (file) askFile(file);
});
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) askFile(file);
  at("file").value = ""; // or choosing the same file again would not count as a change
});
at("query").addEventListener("error", () => { at("query").hidden = true; }); // no picture, as the server will say
at("options").addEventListener("submit", (event) => event.preventDefault());
at("options").addEventListener("change", () => { if (asked) begin(search); });

for (const first of [showModel, showCollections, showExamples]) first().catch((error) => say(error.message, true));
