// Figures: fetched when they come into sight, drawn by plotly (loaded once, when the first one is needed), refreshed
// by ETag, in the page's colours. Each can be shown as a table and saved as CSV or PNG; a click on
// a trial offers its page and its predictions.
import { brushed, enableBrush, linkHover, startLinks, withShapes } from "./figure_links.js";
import { NARROW, dressed } from "./figure_theme.js";
import { words } from "./words.js";

let loading = null;

const plotly = () => {
  loading ??= new Promise((resolve, reject) => {
    // Plotly adds style sheets with text, which the content policy forbids, unless elements with these ids are there.
    for (const id of document.body.dataset.marks.split(" ")) {
      const mark = document.createElement("meta");
      mark.id = id;
      document.head.append(mark);
    }
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly could not be loaded"));
    document.head.append(script);
  });
  return loading;
};

// Its own `responsive` forgets a figure's height, and cuts what is higher than the empty one.
const CONFIG = { displayModeBar: false, responsive: false, doubleClick: "reset" };
const SERIES = 8;
const SCALED = ["curves", "history"];
const WAIT = 15_000;
const MAX_ROWS = 500;
const NOTHING = 60;
const DASHES = ["solid", "dash", "dot", "dashdot"];

const plain = (plot, text) => {
  window.Plotly?.purge(plot);
  plot.classList.add("bare");
  plot.textContent = text;
};

const draw = async (figure, drawn) => {
  const plot = figure.querySelector(".plot");
  if (drawn.reason) { plain(plot, drawn.reason); return; }
  const library = await plotly();
  if (!plot.classList.contains("js-plotly-plot")) plot.replaceChildren();
  plot.classList.remove("bare");
  const { figure: name } = figure.dataset;
  const isCurve = name === undefined || SCALED.includes(name);
  const page = words();
  const wish = { smooth: name === "history" ? 0 : isCurve ? Number(page.get("smooth") ?? 0) : 0, log: isCurve && page.get("scale") === "log" };
  const { axes } = drawn.layout.meta ?? {};
  const { data, layout } = dressed(axes ? { ...brushed(drawn), layout: withShapes(drawn.layout) } : drawn, plot.clientWidth, wish);
  widths.set(plot, plot.clientWidth);
  sizes.observe(plot);
  if (plot.clientWidth < NOTHING) return; // what takes a picture of a whole page may squeeze it meanwhile
  await library.react(plot, data, layout, CONFIG);
  if (axes) enableBrush(plot, axes);
  linkHover(plot);
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => {
    const number = event.points[0]?.customdata?.[0];
    if (Number.isInteger(number) && figure.dataset.study) offer(figure, number);
  });
};

// A figure that gets another width than it was drawn for is drawn again.
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const width = Math.round(contentRect.width);
    if (width < NOTHING || Math.abs(width - widths.get(target)) < 2) continue;
    clearTimeout(resizing.get(target));
    resizing.set(target, setTimeout(() => {
      const figure = target.closest(".figure");
      const drawn = figure && states.get(figure)?.drawn;
      if (drawn) draw(figure, drawn);
    }, 120));
  }
});
const widths = new WeakMap();
const resizing = new WeakMap();

const closeOffers = () => document.querySelectorAll(".offer").forEach((box) => box.remove());

// What can be done with the trial that was clicked: look at it, or at what it predicts beside the best one.
const offer = (figure, number) => {
  closeOffers();
  const url = `/studies/${encodeURIComponent(figure.dataset.study)}`;
  const best = document.querySelector("[data-best]")?.dataset.best;
  const beside = best && best !== String(number) ? `${number},${best}` : `${number}`;
  const box = document.createElement("p");
  box.className = "offer";
  const link = (href, text) => {
    const anchor = document.createElement("a");
    anchor.className = "button";
    anchor.href = href;
    anchor.textContent = text;
    box.append(anchor);
  };
  link(`${url}/trials/${number}`, `Open trial ${number}`);
  link(`${url}/compare?trials=${beside}#wall`, beside.includes(",") ? `Its predictions beside the best trial's` : "Its predictions");
  figure.querySelector(".plot").after(box);
  box.firstChild.focus({ preventScroll: true });
};

const TAKEN = ["loss", "where", "metric", "class"];

const addressOf = (figure, format) => {
  const asked = new URLSearchParams();
  const name = figure.dataset.figure;
  if (format) asked.set("format", format);
  for (const [key, value] of words()) {
    if (key === "where" && name === "parallel" && !format) continue; // it shows what is left out as well
    if (TAKEN.includes(key) || (key === "axis" && SCALED.includes(name))) asked.append(key, value);
  }
  if (name === "history" && asked.get("axis") === "epoch") asked.delete("axis");
  for (const field of figure.querySelectorAll("[data-param]")) if (field.value) asked.set(field.dataset.param, field.value);
  return `/api/v1/studies/${encodeURIComponent(figure.dataset.study)}/figures/${name}?${asked}`;
};

const cell = (value) => {
  const box = document.createElement("td");
  const isNumber = typeof value === "number";
  if (isNumber) box.className = "num";
  box.textContent = value === null ? "" : isNumber && !Number.isInteger(value) ? Number(value.toPrecision(5)) : String(value);
  return box;
};

// The table of curves that the page itself carries: a row an epoch, a column a curve.
const seriesTable = (figure) => {
  const { data } = seriesOf(figure);
  const epochs = [...new Set(data.flatMap((line) => line.x))].sort((a, b) => a - b);
  const at = data.map((line) => new Map(line.x.map((x, index) => [x, line.y[index]])));
  return { columns: ["epoch", ...data.map((line) => line.name)], rows: epochs.map((x) => [x, ...at.map((own) => own.get(x) ?? null)]) };
};

const showTable = async (figure) => {
  const box = figure.querySelector(".tabled");
  const answer = figure.dataset.series ? null : await fetch(addressOf(figure, "table"));
  if (answer && !answer.ok) return;
  const { columns, rows } = answer ? await answer.json() : seriesTable(figure);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const name of columns) { const title = document.createElement("th"); title.scope = "col"; title.textContent = name; head.append(title); }
  const body = table.createTBody();
  for (const row of rows.slice(0, MAX_ROWS)) body.insertRow().append(...row.map(cell));
  if (rows.length > MAX_ROWS) table.createCaption().textContent = `The first ${MAX_ROWS} of ${rows.length} rows; the CSV has all of them.`;
  box.replaceChildren(rows.length ? table : document.createTextNode("nothing yet"));
};

const states = new WeakMap();

// A change within WAIT of the last drawing is drawn after it: else the last change of a study would never be.
const refreshSoon = (figure) => {
  const state = states.get(figure);
  refresh(figure);
  state.timer ||= setTimeout(() => { state.timer = 0; if (figure.isConnected) refresh(figure); }, WAIT + 1000);
};

const refresh = async (figure, force = false) => {
  const state = states.get(figure);
  const url = addressOf(figure, "");
  if (state.busy) { state.again ||= force; return; }
  if (!state.seen || (!force && state.url === url && Date.now() - state.at < WAIT)) return;
  state.busy = true;
  state.at = Date.now();
  try {
    const headers = state.tag && state.url === url ? { "If-None-Match": state.tag } : {};
    if (!force && state.drawn) headers["X-Poll"] = "1";
    const answer = await fetch(url, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    const drawn = await answer.json();
    if (!answer.ok) { plain(figure.querySelector(".plot"), drawn.error?.message ?? `the server answers ${answer.status}`); return; }
    state.tag = answer.headers.get("ETag");
    state.url = url;
    state.drawn = drawn;
    await draw(figure, drawn);
    const note = figure.querySelector(".note");
    note.hidden = !drawn.note;
    note.textContent = drawn.note ?? "";
    figure.querySelector("[data-tool=csv]").href = addressOf(figure, "csv");
    if (!figure.querySelector(".tabled").hidden) await showTable(figure);
  } catch {
    state.at = 0;
  } finally {
    state.busy = false;
    if (state.again || addressOf(figure, "") !== url) { state.again = false; refresh(figure, true); }
  }
};

// Beyond four lines colours alone are hard to tell apart.
const dashOf = (line, index) => (line.strong && index < 4 ? "solid" : DASHES[index % DASHES.length]);

const colourOf = (index) => Object.entries(JSON.parse(document.body.dataset.palette)).find(([, name]) => name === `--series${index % SERIES}`)[0];

// Ticks at whole epochs, at most a dozen.
const stepOf = (largest) => [1, 2, 5].flatMap((digit) => [0, 1, 2, 3, 4, 5].map((power) => digit * 10 ** power)).sort((a, b) => a - b).find((step) => 12 * step >= largest);

const seriesOf = (figure) => {
  const given = JSON.parse(figure.dataset.series);
  const lines = given.curves
    ? given.curves.map((curve) => ({ name: curve.name, x: curve.epochs, y: curve.values, strong: true, number: curve.number }))
    : given.series.map((line) => ({ ...line, x: given.x }));
  return {
    data: lines.map((line, index) => ({
      type: "scatter", mode: line.x.length > 1 ? "lines" : "markers", name: line.name, x: line.x, y: line.y, connectgaps: true,
      line: { color: colourOf(index), width: line.strong || lines.length === 1 ? 2.5 : 1.4, dash: dashOf(line, index) },
      ...(line.number === undefined ? {} : { customdata: line.x.map(() => [line.number]) }),
      hovertemplate: `${line.name}: %{y:.4f}<extra></extra>`,
    })),
    layout: {
      height: 300, margin: { l: 52, r: 12, t: 12, b: 44 }, hovermode: "x unified", showlegend: lines.length > 1,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, xaxis: { title: { text: "epoch" }, zeroline: false, tick0: 0, dtick: stepOf(Math.max(1, ...lines.flatMap((line) => line.x))), tickformat: "d" }, yaxis: { title: { text: given.y }, zeroline: false },
    },
    reason: null,
  };
};

const redrawSeries = async (figure) => { const drawn = seriesOf(figure); states.set(figure, { drawn, seen: true }); await draw(figure, drawn); };

const save = async (figure) => {
  const library = await plotly();
  const name = figure.dataset.figure ?? "curves";
  await library.downloadImage(figure.querySelector(".plot"), { format: "png", width: 1200, height: 700, scale: 2, filename: name });
};

const drawAgain = () => document.querySelectorAll("[data-figure], [data-series]").forEach((figure) => {
  const drawn = states.get(figure)?.drawn;
  if (drawn) draw(figure, drawn);
});

export const startFigures = () => {
  startLinks();
  const all = () => [...document.querySelectorAll("[data-figure]")];
  const eye = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const state = states.get(entry.target);
      if (!state) continue;
      state.seen = entry.isIntersecting;
      if (entry.isIntersecting) refresh(entry.target);
    }
  }, { rootMargin: "200px" });
  for (const figure of all()) { states.set(figure, { seen: false, at: 0 }); eye.observe(figure); }
  const drawSeries = () => document.querySelectorAll("[data-series]").forEach((figure) => { if (!states.has(figure)) redrawSeries(figure); });
  drawSeries();
  addEventListener("regionschange", drawSeries);
  addEventListener("studychange", () => all().forEach(refreshSoon));
  addEventListener("themechange", drawAgain);
  matchMedia(NARROW).addEventListener("change", drawAgain); // a telephone that is turned gets the other layout
  addEventListener("wordschange", () => { drawAgain(); all().forEach((figure) => refresh(figure, true)); });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-param]")) refresh(event.target.closest("[data-figure]"), true);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeOffers(); });
  document.addEventListener("click", (event) => {
    const tool = event.target.closest("[data-tool]");
    const figure = tool?.closest(".figure");
    if (tool?.dataset.tool === "png") save(figure);
    if (tool?.dataset.tool === "table") {
      const box = figure.querySelector(".tabled");
      box.hidden = !box.hidden;
      tool.setAttribute("aria-pressed", String(!box.hidden));
      if (!box.hidden) showTable(figure);
    }
  });
};
