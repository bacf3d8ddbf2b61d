// The form of a new study: every change is turned into the study file by the server, which also says what is wrong.
import { send, toast } from "./actions.js";

const typed = (field) => {
  const text = field.value.trim();
  const kind = field.dataset.type;
  if (text === "" || text === "None" || text === "none") return null;
  if (kind === "bool") return text === "True" || text === "true";
  return (kind === "str" || (kind === undefined && !("number" in field.dataset)) || Number.isNaN(Number(text))) ? text : Number(text);
};

const read = (form) => {
  const value = (name) => form.elements[name].value;
  const found = { dataset_options: {}, model_options: {}, train: {}, ranges: {} };
  for (const field of form.querySelectorAll("[data-option]")) {
    if (field.closest("[hidden]") || field.value === (field.dataset.default ?? field.options?.[0]?.value)) continue;
    found[field.dataset.option][field.name] = typed(field);
  }
  for (const field of form.querySelectorAll("[data-train]")) found.train[field.name] = typed(field);
  for (const range of form.querySelectorAll("[data-range]")) {
    const [on, low, high] = range.querySelectorAll("input");
    range.classList.toggle("off", !on.checked);
    if (on.checked) found.ranges[range.dataset.range] = [Number(low.value), Number(high.value)];
  }
  found.losses = [...form.querySelectorAll("[name=losses]:checked")].map((box) => box.value);
  found.objectives = [...form.elements.objectives.selectedOptions].map((option) => option.value);
  for (const name of ["name", "dataset", "model", "loss_options", "sampler", "pruner", "timeout"]) found[name] = value(name);
  for (const name of ["trials", "seed"]) found[name] = Math.trunc(Number(value(name)));
  found.hours_per_loss = value("hours_per_loss") === "" ? null : Number(value("hours_per_loss"));
  return found;
};

const show = (form, answer) => {
  const list = form.querySelector(".problems");
  list.replaceChildren(...answer.problems.map((text) => { const item = document.createElement("li"); item.textContent = text; return item; }));
  form.querySelector(".says").textContent = answer.says ?? "";
  form.querySelector("[type=submit]").disabled = answer.problems.length > 0;
};

const later = (work) => {
  let pause = 0;
  return () => { clearTimeout(pause); pause = setTimeout(work, 200); };
};

export const startForm = () => {
  const form = document.querySelector("[data-new]");
  if (!form) return;
  const yaml = document.getElementById("yaml");
  let turn = 0;
  const ask = async (url, body, write) => {
    const mine = ++turn;
    try {
      const answer = await send(url, "POST", body);
      if (!answer || mine !== turn) return;
      if (write) yaml.value = answer.yaml;
      show(form, answer);
    } catch (error) {
      show(form, { problems: [error.message], says: null });
    }
  };
  const draft = later(() => ask("/new/draft", read(form), true));
  const check = later(() => ask("/new/check", { yaml: yaml.value }, false));
  form.addEventListener("input", (event) => {
    if (event.target === yaml) { check(); return; }
    const { family, member } = event.target.dataset;
    if (family) for (const box of form.querySelectorAll(`[data-member="${family}"]`)) box.checked = event.target.checked;
    if (member) form.querySelector(`[data-family="${member}"]`).checked = [...form.querySelectorAll(`[data-member="${member}"]`)].every((box) => box.checked);
    for (const box of form.querySelectorAll("[data-of]")) box.hidden = form.elements[box.dataset.of].value !== box.dataset.is;
    draft();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await send("/new", "POST", { yaml: yaml.value });
      if (answer) location.assign(`/studies/${encodeURIComponent(answer.name)}`);
    } catch (error) {
      toast(error.message, true);
      show(form, { problems: [error.message], says: null });
    }
  });
  draft();
};
