// The table of trials: filters, order and columns stand in the address; rows are fetched as they come into sight, at their
// places among all of them, so that the bar beside it says how many there are. Selected trials can be acted on.
import { send, toast } from "./actions.js";
import { keepFocus } from "./focus.js";
import { askTags } from "./tag_trials.js";
import { refresh, showView } from "./live.js";
import { showTimes } from "./times.js";
import { change } from "./words.js";

// A form changes its own words of the address and leaves the others (filters, columns).
const addressOf = (form) => {
  const words = new URLSearchParams(form.matches("[data-swap]") ? location.search : "");
  words.delete("offset");
  for (const [key, value] of new FormData(form)) value ? words.set(key, value) : words.delete(key);
  return `${location.pathname}?${words}`;
};

// Pages of rows that were fetched, by their number.
let rows = null;

const begin = () => {
  const box = document.querySelector("[data-rows]");
  const body = box?.querySelector("tbody");
  const total = Number(box?.dataset.total);
  const step = Number(box?.dataset.step);
  if (!box || !body.querySelector("[data-trial]")) { rows = null; return; }
  const first = Math.floor(Number(box.dataset.offset) / step);
  const height = body.querySelector("[data-trial]").getBoundingClientRect().height;
  rows = { box, body, total, step, height, pages: new Map([[first, [...body.children]]]), asked: new Set([first]), turns: new Map() };
  if (total > step) box.parentElement.classList.add("virtual");
  lay();
  if (first > 0) box.scrollTop = first * step * height;
};

const gap = (pages) => {
  const row = document.createElement("tr");
  row.className = "gap";
  row.setAttribute("aria-hidden", "true");
  const cell = document.createElement("td");
  cell.colSpan = 99;
  cell.style.height = `${pages * rows.height}px`;
  row.append(cell);
  return row;
};

const lay = () => {
  const { body, pages, total, step } = rows;
  const parts = [];
  let missing = 0;
  for (let index = 0; index * step < total; index += 1) {
    const found = pages.get(index);
    if (!found) { missing += Math.min(step, total - index * step); continue; }
    if (missing) { parts.push(gap(missing)); missing = 0; }
    parts.push(...found);
  }
  if (missing) parts.push(gap(missing));
  keepFocus(() => body.replaceChildren(...parts));
  showPicked();
  sayShown();
};

const inSight = () => {
  const { box, height, step, total } = rows;
  const from = Math.max(0, box.scrollTop - box.clientHeight);
  const to = box.scrollTop + 2 * box.clientHeight;
  const last = Math.floor((total - 1) / step);
  return [Math.max(0, Math.floor(from / height / step)), Math.min(last, Math.floor(to / height / step))];
};

const sayShown = () => {
  const { box, height, total } = rows;
  const first = Math.min(total, Math.floor(box.scrollTop / height) + 1);
  const last = Math.min(total, Math.floor((box.scrollTop + box.clientHeight - 36) / height));
  const said = box.parentElement.querySelector("[data-shown]");
  if (said && total > rows.step) said.textContent = `${first.toLocaleString()}–${Math.max(first, last).toLocaleString()} of ${total.toLocaleString()}`;
};

const fetchRows = async (index, again = false) => {
  const mine = rows;
  if (!again && mine.asked.has(index)) return;
  mine.asked.add(index);
  const turn = (mine.turns.get(index) ?? 0) + 1;
  mine.turns.set(index, turn);
  const words = new URLSearchParams(location.search);
  words.set("offset", index * mine.step);
  const answer = await fetch(`${location.pathname}/rows?${words}`, { headers: { Accept: "text/html" } }).catch(() => null);
  const text = answer?.ok ? await answer.text().catch(() => null) : null;
  if (rows !== mine || turn !== mine.turns.get(index)) return; // another view, or asked for again meanwhile
  if (text === null) { mine.asked.delete(index); return; }
  const table = document.createElement("table");
  table.innerHTML = `<tbody>${text}</tbody>`;
  showTimes(table);
  mine.pages.set(index, [...table.tBodies[0].rows]);
  lay();
};

const fetchInSight = (again = false) => {
  if (!rows) return;
  const [from, to] = inSight();
  for (let index = from; index <= to; index += 1) fetchRows(index, again);
  sayShown();
};

const picked = new Map();

const showPicked = () => {
  for (const box of document.querySelectorAll("[data-pick]")) {
    box.checked = picked.has(box.dataset.pick);
    if (box.checked) pick(box); // its state may have changed since
  }
  const bar = document.querySelector("[data-picked]");
  if (!bar) return;
  bar.querySelector("[data-count]").textContent = picked.size ? `${picked.size} selected` : "select trials to act on them";
  for (const button of bar.querySelectorAll("[data-act]")) {
    const fits = [...picked.values()].filter(({ state }) => !button.dataset.of || state === button.dataset.of).length;
    button.disabled = fits < Number(button.dataset.least ?? 1);
  }
};

const numbers = () => [...picked.keys()].map(Number);

const enqueueAgain = async (url) => {
  let done = 0;
  for (const number of numbers()) {
    const answer = await fetch(`/api/v1${url}/trials/${number}`);
    const { params } = await answer.json();
    if (await send(`/api/v1${url}/trials`, "POST", { params }) === null) return;
    done += 1;
  }
  toast(`${done} ${done === 1 ? "trial is" : "trials are"} queued again.`);
};

const annotate = async (url, change) => {
  const trials = numbers();
  for (let start = 0; start < trials.length; start += 1000) {
    if (await send(`/api/v1${url}/annotate`, "POST", { trials: trials.slice(start, start + 1000), ...change }) === null) return;
  }
  toast(`${trials.length} ${trials.length === 1 ? "trial" : "trials"} changed.`);
};

const pick = (box) => {
  const { state, starred } = box.closest("tr").dataset;
  box.checked ? picked.set(box.dataset.pick, { state, starred: starred !== undefined }) : picked.delete(box.dataset.pick);
};

const ACTS = {
  compare: (url) => location.assign(`${url}/compare?trials=${numbers().join(",")}`),
  export: (url) => location.assign(`${url}/trials.csv?trials=${numbers().join(",")}`),
  enqueue: enqueueAgain,
  retry: async (url) => {
    const failed = numbers().filter((number) => picked.get(String(number)).state === "FAIL");
    const answer = await send(`/api/v1${url}/retry`, "POST", { trials: failed });
    if (answer) toast(`${answer.retried.length} queued for another attempt.`);
  },
  tag: (url) => askTags(numbers().length, (change) => annotate(url, change)),
  star: async (url) => {
    const starred = ![...picked.values()].every((trial) => trial.starred);
    await annotate(url, { starred });
    for (const trial of picked.values()) trial.starred = starred;
  },
};

const act = async (button) => {
  const { url } = button.closest("[data-picked]").dataset;
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await ACTS[button.dataset.act](url);
    if (["enqueue", "retry"].includes(button.dataset.act)) picked.clear();
    if (!["compare", "export"].includes(button.dataset.act)) await refresh();
  } catch (error) {
    toast(error.message, true);
  } finally {
    button.removeAttribute("aria-busy");
    showPicked();
  }
};

const startSearch = () => {
  if (location.hash === "#search") document.querySelector("[data-search]")?.focus();
  let pause = 0;
  document.querySelector("[data-search]")?.addEventListener("input", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => showView(addressOf(event.target.form)), 250);
  });
};

export const startTable = () => {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap]");
    if (link && !event.ctrlKey && !event.metaKey) { event.preventDefault(); showView(link.href.split("#")[0]); }
    const button = event.target.closest("[data-act]");
    if (button) act(button);
  });
  document.addEventListener("submit", (event) => { if (event.target.matches("form[data-swap]")) { event.preventDefault(); showView(addressOf(event.target)); } });
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.matches("[data-submit]")) field.form.matches("[data-swap]") ? showView(addressOf(field.form)) : field.form.submit();
    if (field.matches("[data-pick-all]")) for (const box of document.querySelectorAll("[data-pick]")) { box.checked = field.checked; pick(box); }
    if (field.matches("[data-pick]")) pick(field);
    if (field.matches("[data-pick], [data-pick-all]")) showPicked();
    if (field.closest("[data-columns]")) {
      const chosen = [...document.querySelectorAll("[data-columns] input:checked")].map((box) => box.value);
      change((words) => words.set("columns", chosen.join(",") || ","));
    }
  });
  document.addEventListener("scroll", (event) => { if (rows && event.target === rows.box) fetchInSight(); }, true);
  addEventListener("wordschange", () => { if (document.querySelector("[data-live]")) showView(location.href); });
  addEventListener("regionsswapped", begin);
  addEventListener("studychange", () => fetchInSight(true));
  begin();
  startSearch();
};
