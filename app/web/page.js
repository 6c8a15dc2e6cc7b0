// The page: pick a crop, ask the server, show the ranked matches. Everything comes from this server.

const at = (id) => document.getElementById(id);

async function getJson(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.json();
}

// Text goes in as text, never as markup: names come from files and callers.
function element(tag, text, attributes = {}) {
  const node = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) node.textContent = text;
  return node;
}

async function showModel() {
  const model = await getJson("/v1/model");
  at("model").textContent = `${model.label} · ${model.fingerprint}`;
}

async function showCollections() {
  const { collections } = await getJson("/v1/collections");
  at("collection").replaceChildren(...collections.map((c) => element("option", `${c.name} (${c.items})`, { value: c.name })));
  if (!collections.length) at("message").textContent = "There is no collection yet: index a folder with `reid index`.";
}

async function showExamples() {
  const { examples } = await getJson("/examples");
  at("try").hidden = !examples.length;
  at("examples").replaceChildren(...examples.map((name) => {
    const source = `/examples/files/${encodeURIComponent(name)}`;
    const button = element("button", undefined, { type: "button", title: name });
    button.append(element("img", undefined, { src: source, alt: `Example ${name}`, loading: "lazy" }));
    button.addEventListener("click", async () => search(await (await fetch(source)).blob(), name));
    return button;
  }));
}

let shown; // the object URL of the query on show, freed when the next one comes

async function search(picture, name) {
  URL.revokeObjectURL(shown);
  shown = URL.createObjectURL(picture);
  Object.assign(at("query"), { src: shown, hidden: false });
  at("hint").textContent = name;
  const options = new URLSearchParams({ k: at("k").value });
  if (at("camera").value) options.set("camera_id", at("camera").value);
  const collection = encodeURIComponent(at("collection").value);
  const form = new FormData();
  form.append("image", picture, name);
  at("message").textContent = "Searching…";
  try {
    const response = await fetch(`/v1/collections/${collection}/search?${options}`, { method: "POST", body: form });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    showMatches(answer, collection);
  } catch (error) {
    at("matches").replaceChildren();
    at("time").textContent = "";
    at("message").textContent = `Refused: ${error.message}`;
  }
}

function showMatches(answer, collection) {
  at("message").textContent = answer.matches.length ? "" : "Nothing in the gallery matches these filters.";
  at("matches").replaceChildren(...answer.matches.map((match) => {
    const row = element("li");
    const picture = element("img", undefined, {
      src: `/v1/collections/${collection}/items/${encodeURIComponent(match.id)}/crop`,
      alt: `Match ${match.rank}`,
    });
    picture.addEventListener("error", () => picture.replaceWith(element("div", "crop not kept", { className: "none" })));
    const facts = element("dl");
    const rows = [["rank", match.rank], ["person", match.person_id ?? "–"], ["camera", match.camera_id ?? "–"], ["score", match.score.toFixed(3)]];
    for (const [name, value] of rows) facts.append(element("dt", name), element("dd", String(value)));
    row.append(picture, facts);
    return row;
  }));
  const stages = Object.entries(answer.timings_ms).map(([stage, ms]) => `${stage} ${ms.toFixed(1)} ms`);
  at("time").textContent = stages.join(" · ");
}

const drop = at("drop");
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) search(file, file.name);
});
at("file").addEventListener("change", () => { const [file] = at("file").files; if (file) search(file, file.name); });
at("options").addEventListener("submit", (event) => event.preventDefault());

for (const show of [showModel, showCollections, showExamples]) {
  show().catch((error) => { at("message").textContent = error.message; });
}
