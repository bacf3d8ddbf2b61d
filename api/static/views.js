// Saved views of a study: what its pages show stands in their address, and here such addresses have names. They are kept in
// this browser (`localStorage`), for each study by its identity, which a renamed one keeps; whoever writes there, only pages
// of this study are offered.
import { toast } from "./actions.js";

const MOST = 50;
const menu = () => document.querySelector("[data-views]");
const keyOf = (key) => `tuner-views:${key}`;

const isView = (view) => typeof view?.name === "string" && typeof view.words === "string" && /^[a-z]*$/.test(view.tab);

const load = (key) => {
  try {
    const found = JSON.parse(localStorage.getItem(keyOf(key)) ?? "[]");
    return Array.isArray(found) ? found.filter(isView).slice(0, MOST) : [];
  } catch {
    return [];
  }
};

// False where the browser keeps nothing: its storage is full or switched off.
const store = (key, views) => {
  try {
    localStorage.setItem(keyOf(key), JSON.stringify(views));
    return true;
  } catch {
    return false;
  }
};

// They were once kept by the study's name: what stands there is taken along, what has the same name since stays.
const takeAlong = (identity, study) => {
  const [own, old] = [load(identity), load(study)];
  const missing = old.filter((view) => !own.some(({ name }) => name === view.name));
  if (missing.length && !store(identity, byName([...own, ...missing]).slice(0, MOST))) return;
  try { localStorage.removeItem(keyOf(study)); } catch { /* it keeps nothing: there is nothing to take along */ }
};

const byName = (views) => views.toSorted((a, b) => a.name.localeCompare(b.name));

// The words of an address in one order, without the place in the table.
const ordered = (text) => {
  const words = new URLSearchParams(text);
  words.delete("offset");
  words.sort();
  return words.toString();
};

const addressOf = (study, { tab, words }) => `/studies/${encodeURIComponent(study)}${tab && `/${tab}`}${words && `?${words}`}`;

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const rowOf = (view) => {
  const { study, identity, tab } = menu().dataset;
  const link = element("a", { href: addressOf(study, view) }, view.name);
  if (view.tab !== tab) link.append(element("small", { className: "quiet" }, ` ${view.tab}`));
  else if (ordered(view.words) === ordered(location.search)) link.setAttribute("aria-current", "true");
  const remove = element("button", { type: "button", className: "plain" }, "×");
  remove.setAttribute("aria-label", `Delete the view ${view.name}`);
  remove.addEventListener("click", (event) => {
    event.stopPropagation(); // the row is gone before the click arrives at the page, which would close the menu
    if (!store(identity, load(identity).filter(({ name }) => name !== view.name))) return;
    show();
    menu().querySelector("[data-save-view]").focus();
  });
  return element("div", { className: "view" }, link, remove);
};

const show = () => {
  const views = load(menu().dataset.identity);
  menu().querySelector("[data-list]").replaceChildren(...views.map(rowOf));
  menu().querySelector("[data-none]").hidden = views.length > 0;
};

const save = (form) => {
  const { identity, tab } = menu().dataset;
  const name = form.elements.name.value.trim();
  const problem = form.querySelector(".problem");
  const views = load(identity);
  const others = views.filter((view) => view.name !== name);
  if (!name) { problem.textContent = "A view needs a name."; return; }
  if (others.length >= MOST) { problem.textContent = `${MOST} views are kept of a study; delete one first.`; return; }
  const wish = byName([...others, { name, tab, words: ordered(location.search) }]);
  if (!store(identity, wish)) { problem.textContent = "This browser keeps nothing: its storage is full or switched off."; return; }
  form.closest("dialog").close();
  show();
  toast(others.length < views.length ? `The view ${name} is replaced.` : `The view ${name} is saved in this browser.`);
};

export const startViews = () => {
  if (!menu()) return;
  const dialog = document.getElementById("save-view");
  const form = dialog.querySelector("form");
  takeAlong(menu().dataset.identity, menu().dataset.study);
  show();
  menu().addEventListener("toggle", show);
  menu().querySelector("[data-save-view]").addEventListener("click", () => {
    menu().open = false;
    form.reset();
    form.querySelector(".problem").textContent = "";
    dialog.showModal();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); save(form); });
};
