// The page asks for itself again with the ETag it has; only regions that differ are replaced, and nothing is when the
// server answers 304. Hidden pages ask rarely.
import { showTimes } from "./times.js";

const EVERY = 5_000;
const HIDDEN = 60_000;
let tag = null;
let asking = false;
let timer = 0;
// Answers may overtake one another: only the one to the latest view that was asked for is shown.
let view = 0;

const regions = () => [...document.querySelectorAll("[data-live][id]")];

const isBusy = (region) => region.closest("dialog[open]") || region.matches("[data-editing]") || region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, summary")
  || region.querySelector("details.menu[open]");

// `swapping`: another view was asked for; else what keeps itself up to date (a table with its place in it) is left alone.
const replaceRegions = (html, swapping = false) => {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const region of regions()) {
    const next = fresh.getElementById(region.id);
    if (!next || (!swapping && region.matches("[data-virtual]")) || isBusy(region)) continue;
    showTimes(next);
    if (next.innerHTML === region.innerHTML) continue;
    const left = [...region.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    region.replaceWith(document.adoptNode(next));
    next.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = left[index] ?? 0; });
  }
  document.title = fresh.title;
  if (swapping) dispatchEvent(new Event("regionsswapped"));
  dispatchEvent(new Event("regionschange"));
};

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
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  const html = await answer.text();
  if (answer.ok && mine === view) replaceRegions(html, true);
};

export const refresh = async (poll = false) => {
  if (asking) return;
  asking = true;
  const mine = view;
  try {
    const headers = { Accept: "text/html" };
    if (poll) headers["X-Poll"] = "1";
    if (tag) headers["If-None-Match"] = tag;
    const answer = await fetch(location.pathname + location.search, { headers, cache: "no-store" });
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
  } finally {
    asking = false;
  }
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
