"use strict";
const $ = (id) => document.getElementById(id);
const phone = matchMedia("(max-width: 40rem), (pointer: coarse)"); // as in page.css
const NEAR = 6; // images of the gallery that are shown
let models = [], turn = 0;
// What was given: {file, answer, milliseconds, error, reason}; `chosen` is the one shown whole.
let given = [], chosen = null;

const headers = () => ($("key").value ? { authorization: "Bearer " + $("key").value } : {});
const model = () => models[$("model").selectedIndex];
const percent = (prob) => (100 * prob).toFixed(prob < 0.001 ? 3 : 1) + " %";

/** Makes an element; class names, file names and errors are data: text, never markup. */
function element(tag, { text = "", ...fields } = {}, ...children) {
  const made = Object.assign(document.createElement(tag), fields);
  made.append(text, ...children);
  return made;
}

/** A file name as `page.breaks` has it: with the places where a line of it may end. */
function named(name) {
  return name.match(/\.?[^/_.]*[/_]?/g).flatMap((part) => [part, element("wbr")]);
}

function fail(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, { ...options, headers: headers() });
  } catch {
    throw Object.assign(new Error("The server does not answer. Is it still running?"), { forAll: true });
  }
  if (reply.status === 401) {
    $("keyfield").hidden = false;
    const text = $("key").value ? "That is not the key of this server." : "This server asks for its key.";
    throw Object.assign(new Error(text), { forAll: true });
  }
  const body = await reply.json().catch(() => ({ error: "The server answered " + reply.status }));
  if (!reply.ok) throw new Error(body.error);
  return body;
}

async function load() {
  try {
    models = await ask("/models");
  } catch (error) {
    return fail(error.message);
  }
  fail("");
  $("model").replaceChildren(...models.map((m) => new Option(`${m.name} (version ${m.version})`)));
  engines();
}

function engines() {
  $("engine").replaceChildren(...model().engines.map((name) => new Option(name)));
  classify();
}

function query(more = {}) {
  const { name, version } = model();
  return new URLSearchParams({ model: name, version, engine: $("engine").value, ...more });
}

/** Asks for images of the gallery where the model has one. */
const near = () => (model().gallery ? { nearest: NEAR } : {});

function command() {
  if (!models.length) return;
  const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const key = $("key").value ? ' -H "Authorization: Bearer $KEY"' : "";
  const file = quoted("@" + (chosen ? chosen.file.name : "picture.jpg"));
  const address = quoted(location.origin + "/predict?" + query({ ...($("why").checked && { explain: true }), ...near() }));
  $("curl").textContent = `curl${key} --data-binary ${file} ${address}`;
}

/** Asks about every image that was given, one after the other. */
async function classify() {
  const mine = ++turn;
  fail("");
  given = given.map(({ file }) => ({ file }));
  chosen = given.length === 1 ? given[0] : null;
  command();
  $("answer").hidden = true;
  $("all").hidden = given.length < 2;
  $("rows").replaceChildren(...given.map(row));
  Object.assign($("progress"), { max: given.length, value: 0, hidden: false });
  $("csv").disabled = true;
  $("count").textContent = `${given.length} images…`;
  if (given.length && !models.length) return load(); // which tells what is missing, and comes back
  for (const entry of given) {
    const begin = performance.now();
    try {
      entry.answer = await ask("/predict?" + query({ seen: true, ...near() }), { method: "POST", body: entry.file });
    } catch (error) {
      entry.error = error.message;
      if (mine === turn && (given.length === 1 || error.forAll)) return fail(error.message);
    }
    if (mine !== turn) return; // others were given in the meantime
    entry.milliseconds = performance.now() - begin;
    $("progress").value += 1;
    entry.row.replaceWith(row(entry));
    if (entry.answer && !chosen || entry === chosen) show(entry);
  }
  $("progress").hidden = true;
  $("csv").disabled = false;
  const failed = given.filter(({ error }) => error).length;
  $("count").textContent = `${given.length} images` + (failed ? `, ${failed} of them not answered` : "");
}

/** An image's line in the table. */
function row(entry) {
  const cell = (...children) => element("td", {}, ...children);
  const name = entry.file.name;
  const made = entry.row = element("tr");
  if (!entry.answer) {
    const text = entry.error || "…";
    made.append(cell(), cell(...named(name)), element("td", { text, colSpan: 2, className: entry.error ? "failed" : "" }));
    return made;
  }
  const [result] = entry.answer.results;
  const open = element("button", { type: "button", onclick: () => show(entry) }, ...named(name));
  made.append(cell(element("img", { src: result.seen, alt: "", loading: "lazy" })), cell(open), ...said(result).map((part) => cell(part)));
  return made;
}

/** What a result says: for the cells of class and probability. */
function said({ topk, unknown, labels, result }) {
  if (!topk) return [JSON.stringify(result), ""]; // a postprocess of the server's owner
  if (labels) return [labels.map(({ name }) => name).join(", ") || "none", labels.map(({ prob }) => percent(prob)).join(", ")];
  const [best] = topk;
  if (!unknown) return [best.name, percent(best.prob)];
  return [element("span", {}, element("span", { text: "unknown", className: "badge" }), ` most like ${best.name}`), percent(best.prob)];
}

/** Shows one image and its answer whole. */
function show(entry) {
  chosen = entry;
  command();
  for (const { row, answer } of given) {
    row.classList.toggle("chosen", row === entry.row);
    if (answer) row.querySelector("button").setAttribute("aria-pressed", row === entry.row);
  }
  const { answer } = entry, [result] = answer.results;
  const { topk, unknown, labels } = result;
  const says = labels || (unknown || !topk ? [] : [topk[0]]);
  $("who").textContent = `${answer.model}, version ${answer.version}, ${answer.engine}`;
  // Without ranked classes the server has a postprocess of its owner's: its answer as it is.
  $("classes").replaceChildren(...(topk ? topk.map((one) => bar(one, says)) : [JSON.stringify(result.result, null, 1)]));
  $("unknown").hidden = !unknown;
  // Of a model with several labels an image: the classes that reach their thresholds.
  $("labels").hidden = !labels;
  if (labels) $("labels").textContent = "labels: " + said(result)[0];
  $("time").textContent =
    `${answer.milliseconds.toFixed(1)} ms in the server, ${entry.milliseconds.toFixed(0)} ms with the way there and back`;
  $("name").replaceChildren(...named(entry.file.name || "Image"));
  URL.revokeObjectURL($("picture").src);
  $("picture").src = URL.createObjectURL(entry.file);
  $("seen").src = result.seen;
  const { resize_size: resize, crop_size: crop } = model().preprocess;
  $("how").textContent = `what the model saw: short side ${resize}, centre ${crop} × ${crop}`;
  $("likes").hidden = !result.nearest;
  $("near").replaceChildren(...(result.nearest || []).map(like));
  $("answer").hidden = false;
  explain();
}

/** An image of the gallery: a picture that is gone from there has its words alone. */
function like({ file, name, cosine, picture }) {
  const image = picture ? [element("img", { src: picture, alt: "" })] : [];
  const what = element("strong", { text: name || "no class" });
  const caption = element("figcaption", {}, what, element("small", { text: cosine.toFixed(3) + " " }, ...named(file)));
  return element("li", {}, element("figure", {}, ...image, caption));
}

/** Shows the heatmap of the chosen image beside what the model saw, where it is asked for. */
async function explain() {
  const entry = chosen;
  $("reason").hidden = true;
  if (!entry || !entry.answer || !$("why").checked) return;
  if (!entry.reason) {
    try {
      const { results } = await ask("/predict?" + query({ explain: true }), { method: "POST", body: entry.file });
      entry.reason = results[0].explain;
    } catch (error) {
      return fail(error.message);
    }
    if (entry !== chosen || !$("why").checked) return;
  }
  const [{ topk }] = entry.answer.results, { class_id, method, heatmap } = entry.reason;
  $("heatmap").src = heatmap;
  const best = topk ? topk[0].name : "class " + class_id;
  $("where").textContent = `where it saw “${best}” (${method.replace("_", "-")}): the brighter, the more`;
  $("reason").hidden = false;
}

function bar(one, says) {
  const fill = element("div", { className: "fill" });
  fill.style.width = 100 * one.prob + "%";
  const track = element("div", { className: "track" }, fill);
  const className = says.some(({ class_id }) => class_id === one.class_id) ? "said" : "";
  const words = [one.name, percent(one.prob)].map((text) => element("span", { text }));
  return element("li", { className }, ...words, track);
}

/** The table as CSV (RFC 4180), a line an image. */
function table() {
  const lines = given.map(({ file, answer, error }) => {
    const { topk, unknown, labels, result } = answer ? answer.results[0] : {};
    const [best = {}] = topk || [];
    const name = result === undefined ? best.name : JSON.stringify(result);
    const all = labels && labels.map(({ name }) => name).join(";");
    const who = answer ? [answer.model, answer.version, answer.engine] : ["", "", ""];
    return [file.name, best.class_id, name, best.prob, unknown, all, error, ...who];
  });
  lines.unshift(["file", "class_id", "class", "probability", "unknown", "labels", "error", "model", "version", "engine"]);
  const quoted = (value = "") => {
    // A spreadsheet would compute a name that begins like a formula.
    const text = typeof value === "string" ? value.replace(/^[=+@\t\r-]/, "'$&") : String(value);
    return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
}

$("csv").onclick = () => {
  // The mark at the begin tells spreadsheets that it is UTF-8.
  const href = URL.createObjectURL(new Blob(["\ufeff", table()], { type: "text/csv" }));
  element("a", { href, download: "answers.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(href));
};

function take(list) {
  const files = [...(list || [])].filter((one) => one instanceof File);
  if (!files.length) return fail("That was no file. Give an image.");
  given = files.map((file) => ({ file }));
  classify();
}

$("drop").onclick = () => $("file").click();
for (const input of [$("file"), $("shot")])
  input.onchange = () => { if (input.files.length) take(input.files); input.value = ""; };
document.ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files);
};
document.onpaste = (event) => { if (event.target.id !== "key") take(event.clipboardData.files); };
$("model").onchange = engines;
$("engine").onchange = classify;
$("why").onchange = () => { command(); explain(); };
$("key").onchange = load;
$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("curl"));
    $("copied").textContent = "Selected; copy it with Ctrl-C.";
  }
};

/** On a phone the camera comes first, then the files, then the settings. */
function arrange() {
  if (phone.matches) {
    $("drop").before($("camera"));
    $("drop").after($("settings"));
  } else {
    $("settings").insertBefore($("camera"), $("keyfield"));
    $("drop").before($("settings"));
  }
}
phone.onchange = arrange;
arrange();

let stream = null;
$("camera").onclick = async () => {
  // A phone's own camera focuses and zooms; without https a browser gives pages none.
  if (!navigator.mediaDevices || matchMedia("(pointer: coarse)").matches) return $("shot").click();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return fail("The camera cannot be used: " + error.message);
  }
  $("video").srcObject = stream;
  $("dialog").showModal();
};
$("take").onclick = () => {
  const canvas = document.createElement("canvas"), video = $("video");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => { if (blob) take([new File([blob], "camera.jpg")]); }, "image/jpeg", 0.95);
  $("dialog").close();
};
$("close").onclick = () => $("dialog").close();
$("dialog").onclose = () => stream.getTracks().forEach((track) => track.stop());

load();
