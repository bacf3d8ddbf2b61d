// The form of a new study and its file are in step both ways: a field changes its key in the file, an edit of the file
// fills in the fields. The server does both, and says at which key something is wrong.
import { send, toast } from "./actions.js";
import { isEdited } from "./early.js";

// A number where the text is one, else the text: the specification says whether it is right.
const typed = (text) => {
  const plain = text.trim();
  if (plain === "" || plain === "none") return plain === "" ? null : "none";
  if (plain === "true" || plain === "false") return plain === "true";
  return Number.isNaN(Number(plain)) ? plain : Number(plain);
};

// Flow syntax of YAML that stands in one field: {folds: 5, fold: 0}, [case1, case2].
const inlined = (text) => {
  const plain = text.trim();
  const parts = (inner) => inner.split(",").map((part) => part.trim()).filter(Boolean);
  if (/^\[.*\]$/s.test(plain)) return parts(plain.slice(1, -1)).map(typed);
  if (/^\{.*\}$/s.test(plain)) return Object.fromEntries(parts(plain.slice(1, -1)).map((part) => { const [key, ...rest] = part.split(":"); return [key.trim(), typed(rest.join(":"))]; }));
  return typed(plain);
};

const read = (field) => {
  if (field.multiple) return [...field.selectedOptions].map((option) => ({ metric: option.value }));
  if ("list" in field.dataset) { const items = field.value.split(",").map(typed).filter((item) => item !== null); return items.length ? items : null; }
  if ("yaml" in field.dataset) return inlined(field.value);
  if (field.value === (field.dataset.usual ?? null) && field.dataset.key.split(".")[1] !== "name") return null;
  return typed(field.value);
};

const written = (value) => {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${key}: ${item}`).join(", ")}}`;
  return String(value);
};

// `active`: the field that is being typed in, which is left as it is.
const fill = (form, fields, active) => {
  for (const field of form.querySelectorAll("[data-key]")) {
    if (field === active) continue;
    const value = fields[field.dataset.key];
    if (field.multiple) { for (const option of field.options) option.selected = (value ?? []).includes(option.value); continue; }
    if ("list" in field.dataset) { field.value = Array.isArray(value) ? value.join(", ") : written(value); continue; }
    field.value = value === undefined ? field.dataset.usual ?? (field.tagName === "SELECT" ? field.options[0].value : "") : written(value);
  }
  for (const range of form.querySelectorAll("[data-range]")) {
    const [on, low, high] = range.querySelectorAll("input");
    const value = fields[range.dataset.range];
    on.checked = value !== undefined;
    range.classList.toggle("off", !on.checked);
    if (low !== active && value?.low !== undefined) low.value = value.low;
    if (high !== active && value?.high !== undefined) high.value = value.high;
  }
  const losses = new Set(fields["search.loss"]);
  for (const box of form.querySelectorAll("[name=losses]")) box.checked = losses.has(box.value);
  for (const box of form.querySelectorAll("[data-family]")) box.checked = [...form.querySelectorAll(`[data-member="${box.dataset.family}"]`)].every((member) => member.checked);
  for (const box of form.querySelectorAll("[data-section]")) {
    box.checked = Object.keys(fields).some((key) => key.startsWith(`${box.dataset.section}.`));
    form.querySelector(`[data-when-section="${box.dataset.section}"]`).hidden = !box.checked;
  }
  for (const box of form.querySelectorAll("[data-of]")) box.hidden = form.querySelector(`[data-key="${box.dataset.of}"]`).value !== box.dataset.is;
};

// The field whose key a problem is about: the nearest one above it.
const fieldOf = (form, path) => {
  for (let key = path; key; key = key.slice(0, Math.max(0, key.lastIndexOf(".")))) {
    const found = [...form.querySelectorAll(`[data-field="${CSS.escape(key)}"], [data-field="${CSS.escape(`${key}.name`)}"]`)].find((box) => !box.closest("[hidden]"));
    if (found) return found;
  }
  return null;
};

const show = (form, answer) => {
  for (const note of form.querySelectorAll(".wrong")) { note.hidden = true; note.textContent = ""; }
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  for (const { path, text } of answer.problems) {
    const box = fieldOf(form, path);
    const note = box?.querySelector(":scope > .wrong");
    if (!note) continue;
    note.textContent = [note.textContent, text.startsWith(`${path}: `) ? text.slice(path.length + 2) : text].filter(Boolean).join("\n");
    note.hidden = false;
    for (const field of box.querySelectorAll("[data-key], [data-range] input")) field.setAttribute("aria-invalid", "true");
  }
  form.querySelector(".problems").replaceChildren(...answer.problems.map(({ text }) => { const item = document.createElement("li"); item.textContent = text; return item; }));
  form.querySelector(".says").textContent = answer.says ?? "";
  const note = form.querySelector("[data-note]");
  note.hidden = !answer.note;
  note.textContent = answer.note ?? "";
  form.querySelector("[type=submit]").disabled = answer.problems.length > 0;
};

const changesOf = (form, target) => {
  const { family, key, section } = target.dataset;
  if (family) for (const box of form.querySelectorAll(`[data-member="${family}"]`)) box.checked = target.checked;
  if (family || target.name === "losses") return { "search.loss": [...form.querySelectorAll("[name=losses]:checked")].map((box) => box.value) };
  if (section) return { [section]: target.checked ? { top: 3, seeds: 5 } : null };
  const range = target.closest("[data-range]");
  if (range) {
    const [on, low, high] = range.querySelectorAll("input");
    return { [range.dataset.range]: on.checked ? { low: typed(low.value), high: typed(high.value), log: true } : null };
  }
  return key ? { [key]: read(target) } : null;
};

// What was typed while the page was still loading: the first answer would fill the fields with the file and lose it.
const editedBefore = (form) => Object.assign({}, ...[...form.querySelectorAll("input, select")]
  .filter((field) => isEdited(field) && !field.closest("[hidden]")).map((field) => changesOf(form, field)));

export const startForm = () => {
  document.addEventListener("change", (event) => { if (event.target.matches("[data-template]")) location.assign(event.target.value); });
  const form = document.querySelector("[data-new]");
  if (!form) return;
  const yaml = document.getElementById("yaml");
  // Where the browser brought back the file of an earlier visit, it brought back the fields that go with it.
  let pending = yaml.value === yaml.defaultValue ? editedBefore(form) : {};
  let pause = 0;
  let chain = Promise.resolve();
  const ask = async () => {
    const changes = pending;
    const text = yaml.value;
    pending = {};
    try {
      const answer = await send("/new/draft", "POST", { yaml: text, changes });
      if (!answer || yaml.value !== text) { if (Object.keys(changes).length) { pending = { ...changes, ...pending }; later(); } return; }
      if (Object.keys(changes).length) yaml.value = answer.yaml;
      if (answer.fields && !Object.keys(pending).length) fill(form, answer.fields, Object.keys(changes).length ? document.activeElement : null);
      show(form, answer);
    } catch (error) {
      pending = { ...changes, ...pending };
      show(form, { problems: [{ path: "", text: error.message }], says: null });
    }
  };
  const later = () => { clearTimeout(pause); pause = setTimeout(() => { chain = chain.then(ask); }, 200); };
  form.addEventListener("input", (event) => {
    if (event.target !== yaml) {
      const changes = changesOf(form, event.target);
      if (!changes) return;
      Object.assign(pending, changes);
    }
    form.querySelector("[type=submit]").disabled = true;
    later();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    form.setAttribute("aria-busy", "true");
    try {
      const answer = await send("/new", "POST", { yaml: yaml.value });
      if (answer) location.assign(`/studies/${encodeURIComponent(answer.name)}`);
    } catch (error) {
      toast(error.message, true);
      show(form, { problems: [{ path: "", text: error.message }], says: null });
    } finally {
      form.removeAttribute("aria-busy");
    }
  });
  chain = ask();
};
