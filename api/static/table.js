// Filters, sorting, pages, columns and selection, without a reload; every one is an ordinary address too.
import { forgetTag, replaceRegions } from "./live.js";

const swap = async (url) => {
  history.replaceState(null, "", url);
  forgetTag();
  document.activeElement?.blur?.();
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.ok) replaceRegions(await answer.text());
};

const addressOf = (form) => {
  const words = new URLSearchParams(new FormData(form));
  for (const [key, value] of [...words]) if (!value) words.delete(key);
  return `${location.pathname}?${words}`;
};

const columnsKey = `tuner-columns:${location.pathname}`;

const showColumns = () => {
  const boxes = [...document.querySelectorAll("[data-columns] input")];
  if (!boxes.length) return;
  const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  for (const cell of document.querySelectorAll("[data-column]")) cell.hidden = !shown.has(cell.dataset.column);
};

const picked = new Set();

const showPicked = () => {
  for (const box of document.querySelectorAll("[data-pick]")) box.checked = picked.has(box.dataset.pick);
  const button = document.querySelector("[data-compare]");
  if (button) {
    button.disabled = picked.size < 2;
    button.textContent = picked.size ? `Compare ${picked.size} selected` : "Compare selected";
  }
};

export const startTable = () => {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-swap]");
    if (link && !event.ctrlKey && !event.metaKey) { event.preventDefault(); swap(link.href.split("#")[0]); }
    const compare = event.target.closest("[data-compare]");
    if (compare) location.assign(`${compare.dataset.compare}?trials=${[...picked].join(",")}`);
  });
  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field.matches("[data-submit]")) field.form.matches("[data-swap]") ? swap(addressOf(field.form)) : field.form.submit();
    if (field.matches("[data-pick]")) { field.checked ? picked.add(field.dataset.pick) : picked.delete(field.dataset.pick); showPicked(); }
    if (field.closest("[data-columns]")) {
      const chosen = [...document.querySelectorAll("[data-columns] input:checked")].map((box) => box.value);
      try { localStorage.setItem(columnsKey, JSON.stringify(chosen)); } catch { /* then only for this page */ }
      showColumns();
    }
  });
  if (location.hash === "#search") document.querySelector("[data-search]")?.focus();
  let pause = 0;
  document.querySelector("[data-search]")?.addEventListener("input", (event) => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      const url = addressOf(event.target.form);
      history.replaceState(null, "", url);
      forgetTag();
      fetch(url, { headers: { Accept: "text/html" } }).then((answer) => answer.text()).then(replaceRegions);
    }, 250);
  });
  try {
    const stored = JSON.parse(localStorage.getItem(columnsKey));
    if (stored) for (const box of document.querySelectorAll("[data-columns] input")) box.checked = stored.includes(box.value);
  } catch { /* as declared */ }
  addEventListener("wordschange", () => { if (document.querySelector("[data-live]")) swap(location.href); });
  addEventListener("regionschange", () => { showColumns(); showPicked(); });
  showColumns();
};
