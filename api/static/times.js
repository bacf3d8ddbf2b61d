// Moments as people say them: "4 min ago", kept true while the page stands open.
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const said = (moment) => {
  const seconds = (moment - Date.now()) / 1000;
  if (Math.abs(seconds) < 10) return "just now";
  const [unit, size] = STEPS.find(([, size]) => Math.abs(seconds) >= size) ?? STEPS.at(-1);
  return words.format(Math.round(seconds / size), unit);
};

export const showTimes = (root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = Date.parse(time.dateTime);
    if (Number.isNaN(moment)) continue;
    time.textContent = said(moment);
    time.title = new Date(moment).toLocaleString();
  }
};

setInterval(() => document.hidden || showTimes(document), 10_000);
