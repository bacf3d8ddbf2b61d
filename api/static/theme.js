// Runs before the first paint, so that the page never flashes in the other theme.
const dark = matchMedia("(prefers-color-scheme: dark)");
const show = () => {
  let chosen = null;
  try { chosen = localStorage.getItem("tuner-theme"); } catch { /* storage may be forbidden */ }
  document.documentElement.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
  dispatchEvent(new Event("themechange"));
};
show();
dark.addEventListener("change", show);
addEventListener("toggletheme", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("tuner-theme", next); } catch { /* then only for this page */ }
  document.documentElement.dataset.theme = next;
  dispatchEvent(new Event("themechange"));
});
