// Whatever replaces a part of a page gives the focus back to what stands there instead: by what it does, else by its place.
const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";
const NAMES = ["id", "href", "name", "data-pick", "data-url", "data-post", "data-dialog", "aria-label"];

const keyOf = (element) => {
  const found = NAMES.map((name) => element.getAttribute(name));
  return found.some((value) => value !== null) ? JSON.stringify([element.tagName, ...found]) : null;
};

const inside = (region) => [...region.querySelectorAll(FOCUSABLE)];

export const keepFocus = (alter) => {
  const focused = document.activeElement;
  const region = focused?.closest("[data-live][id]");
  if (!region) { alter(); return; }
  const place = inside(region).indexOf(focused);
  const key = keyOf(focused);
  alter();
  const now = document.getElementById(region.id);
  if (document.activeElement !== document.body || !now) return;
  const all = inside(now);
  const same = focused.isConnected ? focused : key !== null && [all[place], ...all].find((other) => other && keyOf(other) === key);
  (same || (all[place]?.tagName === focused.tagName && all[place]) || null)?.focus({ preventScroll: true });
};
