// Pages of a study: old addresses with a section's name lead to its page, and a study opens on the page that was seen last.
const MOVED = { now: "", losses: "leaderboard", progress: "curves", parameters: "parameters", workers: "workers", trials: "trials", specification: "settings" };

const keyOf = (study) => `tuner-page:${study}`;

const remembered = (study) => {
  try { return localStorage.getItem(keyOf(study)) ?? ""; } catch { return ""; }
};

export const startTabs = () => {
  const tabs = document.querySelector("[data-tab]");
  if (tabs) {
    const { study, tab } = tabs.dataset;
    const section = location.hash.slice(1);
    if (tab === "" && MOVED[section]) { location.replace(`/studies/${encodeURIComponent(study)}/${MOVED[section]}`); return; }
    try { localStorage.setItem(keyOf(study), tab); } catch { /* then every study opens on its overview */ }
    tabs.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-study]");
    const tab = link && remembered(link.dataset.study);
    if (tab && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); location.assign(`${link.pathname}/${tab}`); }
  });
  // The glossary opens at the word that was asked for.
  document.addEventListener("click", (event) => {
    const word = event.target.closest("[data-term]")?.dataset.term;
    if (!word) return;
    for (const title of document.querySelectorAll("#glossary dt")) title.classList.toggle("asked", title.id === `term-${word}`);
    requestAnimationFrame(() => document.getElementById(`term-${word}`)?.scrollIntoView({ block: "nearest" }));
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") document.getElementById("glossary").togglePopover();
    if (/^[1-9]$/.test(event.key)) document.querySelectorAll(".tabs a")[Number(event.key) - 1]?.click();
  });
};
