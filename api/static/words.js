// What the figures and tables of a page are about stands in its address: loss, filters, metric, class, axes. Fields with
// `data-word` write it there, and what shows trials is asked for again.
const FOLLOW = ["where", "metric", "class"];

export const words = () => new URLSearchParams(location.search);

export const change = (alter) => {
  const found = words();
  alter(found);
  const text = found.toString();
  history.replaceState(null, "", text ? `${location.pathname}?${text}` : location.pathname);
  follow();
  showFilters();
  dispatchEvent(new Event("wordschange"));
};

// The filters and the metric go along to the other pages of the study.
const follow = () => {
  for (const link of document.querySelectorAll(".tabs a[data-follows]")) {
    const kept = new URLSearchParams();
    for (const [key, value] of words()) if (FOLLOW.includes(key)) kept.append(key, value);
    link.search = kept.toString();
  }
};

export const filters = () => {
  const found = new Map();
  for (const text of words().getAll("where")) {
    const equals = text.indexOf("=");
    if (equals > 0) {
      const name = text.slice(0, equals);
      found.set(name, { choices: [...(found.get(name)?.choices ?? []), text.slice(equals + 1)] });
    } else {
      const [name, low, high] = text.split(":");
      found.set(name, { low: Number(low), high: Number(high) });
    }
  }
  return found;
};

const without = (found, name) => {
  const kept = found.getAll("where").filter((text) => !text.startsWith(`${name}:`) && !text.startsWith(`${name}=`));
  found.delete("where");
  for (const text of kept) found.append("where", text);
};

const short = (number) => String(Number(number.toPrecision(4)));

export const setFilter = (name, wish) => change((found) => {
  without(found, name);
  found.delete("offset");
  for (const choice of wish?.choices ?? []) found.append("where", `${name}=${choice}`);
  if (wish && !wish.choices) found.append("where", `${name}:${short(wish.low)}:${short(wish.high)}`);
});

const chip = (name, wish) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.textContent = `${name === "value" ? document.querySelector("[data-filters]").dataset.metric : name} ${wish.choices ? wish.choices.join(", ") : `${short(wish.low)} – ${short(wish.high)}`} ×`;
  button.setAttribute("aria-label", `Remove the filter of ${name}`);
  button.addEventListener("click", () => setFilter(name, null));
  return button;
};

const showFilters = () => {
  const box = document.querySelector("[data-filters]");
  if (box) box.replaceChildren(...[...filters()].map(([name, wish]) => chip(name, wish)));
  const search = document.querySelector("[data-filter-text]");
  if (search && search !== document.activeElement) search.value = filters().get("text")?.choices?.[0] ?? "";
  const starred = document.querySelector("[data-starred-only]");
  starred?.setAttribute("aria-pressed", String(filters().get("starred")?.choices?.[0] === "yes"));
};

// Fields of the form that adds a filter: an interval, or choices.
const showKind = (form) => {
  const option = form.elements.name.selectedOptions[0];
  const choices = JSON.parse(option.dataset.choices ?? "[]");
  const isText = "text" in option.dataset;
  form.querySelector("[data-interval]").hidden = choices.length > 0 || isText;
  form.elements.text.closest("label").hidden = !isText;
  const select = form.elements.choice;
  select.closest("label").hidden = choices.length === 0;
  select.replaceChildren(...choices.map((text) => new Option(text, text)));
  form.elements.low.placeholder = option.dataset.low ?? "";
  form.elements.high.placeholder = option.dataset.high ?? "";
};

const addFilter = (form) => {
  const option = form.elements.name.selectedOptions[0];
  if (option.dataset.choices) { setFilter(option.value, { choices: [...form.elements.choice.selectedOptions].map((chosen) => chosen.value) }); return; }
  if ("text" in option.dataset) { setFilter("text", form.elements.text.value.trim() ? { choices: [form.elements.text.value.trim()] } : null); return; }
  const bound = (field, fallback) => (field.value.trim() === "" ? Number(fallback) : Number(field.value));
  const low = bound(form.elements.low, option.dataset.low ?? -1e300);
  const high = bound(form.elements.high, option.dataset.high ?? 1e300);
  if (Number.isFinite(low) && Number.isFinite(high)) setFilter(option.value, { low, high });
};

export const startWords = () => {
  for (const field of document.querySelectorAll("[data-word]")) {
    const value = words().get(field.dataset.word);
    if (value !== null) field.value = value;
  }
  document.addEventListener("change", (event) => {
    const field = event.target.closest?.("[data-word]");
    if (field) change((found) => { field.value && field.value !== field.dataset.usual ? found.set(field.dataset.word, field.value) : found.delete(field.dataset.word); });
    if (event.target.matches("[data-filter] [name=name]")) showKind(event.target.form);
  });
  let pause = 0;
  const search = document.querySelector("[data-filter-text]");
  const filterText = () => {
    clearTimeout(pause);
    pause = 0;
    const text = search.value.trim();
    if (text !== (filters().get("text")?.choices?.[0] ?? "")) setFilter("text", text ? { choices: [text] } : null);
  };
  search?.addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(filterText, 250); });
  search?.addEventListener("change", filterText); // whoever leaves the field at once has meant it all the same
  document.querySelector("[data-starred-only]")?.addEventListener("click", (event) => {
    setFilter("starred", event.currentTarget.getAttribute("aria-pressed") === "true" ? null : { choices: ["yes"] });
  });
  const form = document.querySelector("form[data-filter]");
  if (form) {
    showKind(form);
    form.addEventListener("submit", (event) => { event.preventDefault(); addFilter(form); form.closest("details").open = false; });
  }
  follow();
  showFilters();
};
