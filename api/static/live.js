// The page asks for itself again with the ETag it has; only regions that differ are replaced, and nothing is when the
// server answers 304. Hidden pages ask rarely.
import { keepFocus } from "./focus.js";
import { showTimes } from "./times.js";

const EVERY = 5_000;
const HIDDEN = 60_000;
const PATIENCE = 30_000;
let tag = null;
let asking = null;
let timer = 0;
// Answers may overtake one another: only the one to the latest view that was asked for is shown.
let view = 0;

const regions = () => [...document.querySelectorAll("[data-live][id]")];

// `swapping`: another view was asked for.
const isBusy = (region, swapping) => region.closest("dialog[open]") || region.matches("[data-editing]") || region.querySelector("details.menu[open]")
  || (!swapping && region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));

// How far its tables are scrolled and what is unfolded; another view begins at its top.
const carryOver = (region, next, swapping) => {
  const before = [...region.querySelectorAll(".scroll")].map(({ scrollLeft, scrollTop }) => [scrollLeft, swapping ? 0 : scrollTop]);
  const open = [...region.querySelectorAll("details:not(.menu)")].map((fold) => fold.open);
  const tables = [...region.querySelectorAll("[data-tool=table]")].map((tool) => tool.getAttribute("aria-pressed") === "true");
  region.replaceWith(next);
  next.querySelectorAll(".scroll").forEach((box, index) => { [box.scrollLeft, box.scrollTop] = before[index] ?? [0, 0]; });
  next.querySelectorAll("details:not(.menu)").forEach((fold, index) => { fold.open = open[index] ?? fold.open; });
  next.querySelectorAll("[data-tool=table]").forEach((tool, index) => { if (tables[index]) tool.click(); });
};

// Unless another view was asked for, what keeps itself up to date (a table with its place in it) is left alone.
const replaceRegions = (html, swapping = false) => keepFocus(() => {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const region of regions()) {
    const next = fresh.getElementById(region.id);
    if (!next || (!swapping && region.matches("[data-virtual]")) || isBusy(region, swapping)) continue;
    showTimes(next);
    if (next.innerHTML === region.innerHTML) continue;
    carryOver(region, document.adoptNode(next), swapping);
  }
  document.title = fresh.title;
  if (swapping) dispatchEvent(new Event("regionsswapped"));
  dispatchEvent(new Event("regionschange"));
});

const say = (text) => {
  const link = document.getElementById("link");
  link.hidden = !text;
  link.textContent = text;
};

export const showView = async (url) => {
  history.replaceState(null, "", url);
  tag = null;
  view += 1;
  const mine = view;
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    const html = await answer.text();
    if (mine !== view) return;
    if (answer.ok) replaceRegions(html, true);
    say(answer.ok ? "" : `the server answers ${answer.status}`);
  } catch {
    if (mine === view) say("no connection; trying again");
  }
};

const ask = async (poll) => {
  const mine = view;
  try {
    const headers = { Accept: "text/html" };
    if (poll) headers["X-Poll"] = "1";
    if (tag) headers["If-None-Match"] = tag;
    const answer = await fetch(location.pathname + location.search, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") { location.assign(answer.url); return; }
    if (answer.status === 200) {
      const html = await answer.text();
      if (mine !== view) return;
      const changed = tag !== null || document.querySelector("[data-live]");
      tag = answer.headers.get("ETag");
      if (changed) { replaceRegions(html); dispatchEvent(new Event("studychange")); }
    }
    say(answer.ok || answer.status === 304 ? "" : `the server answers ${answer.status}`);
  } catch {
    say("no connection; trying again");
  }
};

// What was asked before something was written may be answered as it was before: who has written asks once more.
export const refresh = (poll = false) => {
  if (poll && asking) return asking;
  const mine = (asking ?? Promise.resolve()).then(() => ask(poll)).finally(() => { if (asking === mine) asking = null; });
  asking = mine;
  return mine;
};

const schedule = () => {
  clearTimeout(timer);
  timer = setTimeout(async () => { await refresh(true); schedule(); }, document.hidden ? HIDDEN : EVERY);
};

export const startLive = () => {
  if (!document.querySelector("[data-live]")) return;
  schedule();
  document.addEventListener("visibilitychange", async () => {
    if (!document.hidden) await refresh();
    schedule();
  });
};
