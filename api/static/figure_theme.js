// How a figure of the server looks on this page: the colours of its theme, the width of its screen, smoothing, scale.
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

let palette = null;

// Figures carry the colours of the light theme; each stands for a variable of the page.
const coloured = (part) => {
  palette ??= JSON.parse(document.body.dataset.palette);
  return JSON.parse(JSON.stringify(part), (_, value) => (typeof value === "string" && value in palette ? colour(palette[value]) : value));
};

const themed = (layout) => {
  const copy = coloured(layout);
  const rule = colour("--rule");
  for (const key of Object.keys(copy)) {
    if (/^[xy]axis\d*$/.test(key)) copy[key] = { gridcolor: rule, linecolor: rule, zerolinecolor: rule, tickfont: { size: 11 }, ...copy[key] };
  }
  return {
    ...copy,
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", autosize: true,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--quiet") },
    hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--rule-strong"), font: { color: colour("--ink"), size: 12 }, align: "left" },
  };
};

export const NARROW = "(max-width: 640px)";
export const isNarrow = () => matchMedia(NARROW).matches;

const CHOICE_STEP = 11; // what a name needs between its neighbours, px
const pen = document.createElement("canvas").getContext("2d");

const widthOf = (text, size) => {
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
};

// The choices of an axis, those of the best trials first: where not all names have room, these have it.
const byMerit = (data, index, axis, wide) => {
  const found = [];
  for (const trace of data.toReversed()) {
    for (let from = index; from < trace.y.length; from += wide) found.push(Math.round(trace.y[from] * axis.choices.length - 0.5));
  }
  return [...new Set([...found, ...axis.choices.keys()])];
};

// Names of choices along an axis that lies: beside each other where they fit, else upright, as many as fit.
const namesAlong = (data, axes, index, room, notes) => {
  const step = room / axes[index].choices.length;
  const longest = Math.max(...notes.map((note) => widthOf(note.text, 10)));
  if (longest + 8 <= step) return { notes: notes.map((note) => ({ ...note, x: note.y, y: index, xanchor: "center", yanchor: "top", xshift: 0, yshift: -3 })), tall: 0 };
  const shown = [];
  for (const place of byMerit(data, index, axes[index], axes.length + 1)) {
    if (shown.every((other) => Math.abs(other - place) * step >= CHOICE_STEP)) shown.push(place);
  }
  const upright = { textangle: -90, xanchor: "center", xshift: 0, ...(index ? { yanchor: "top", yshift: -4 } : { yanchor: "bottom", yshift: 4 }) };
  return { notes: shown.map((place) => ({ ...notes[place], x: notes[place].y, y: index, ...upright })), tall: longest + 8, left: notes.length - shown.length };
};

// Axes below each other: on a telephone, lines between upright axes cannot be told apart.
const laidDown = ({ data, layout }, width) => {
  const titles = layout.xaxis.ticktext.map((name) => name.replaceAll("<br>", ""));
  const { axes } = layout.meta;
  const given = layout.annotations ?? [];
  const room = (width - 20) / 1.08; // px of an axis from 0 to 1
  const along = axes.map((axis, index) => (axis.choices ? namesAlong(data, axes, index, room, given.filter((note) => note.name === "choice" && note.x === index)) : { notes: [], tall: 0 }));
  const ends = given.filter((note) => note.name !== "choice").map((note) => ({ ...note, x: note.y, y: note.x, yanchor: "top", xanchor: note.y < 0 ? "left" : "right", yshift: -3 }));
  const heads = titles.map((text, y) => ({
    x: 0, y, text: along[y]?.left ? `${text} (${axes[y].choices.length - along[y].left} of ${axes[y].choices.length} names)` : text,
    showarrow: false, xanchor: "left", yanchor: "bottom", yshift: 3 + (y ? 0 : along[0].tall), font: { size: 11 }, bgcolor: "#ffffff", borderpad: 1,
  }));
  const step = Math.max(84, ...along.slice(1).map(({ tall }) => tall + 34));
  const margin = { l: 10, r: 10, t: along[0].tall + 24, b: 26 };
  return {
    data: data.map((trace) => ({ ...trace, x: trace.y, y: trace.x })),
    layout: {
      ...layout, annotations: [...along.flatMap(({ notes }) => notes), ...ends, ...heads], margin, height: step * (titles.length - 1) + margin.t + margin.b,
      xaxis: { ...layout.yaxis, range: [-0.04, 1.04] },
      yaxis: { tickvals: layout.xaxis.tickvals, showticklabels: false, showgrid: true, fixedrange: true, range: [titles.length - 1 + 2 / step, -2 / step] },
    },
  };
};

// Names of bars and lanes above them, not beside them.
const namedAbove = ({ data, layout }, width) => {
  const lanes = layout.yaxis.tickvals ?? data[0].y;
  const fit = (name) => (widthOf(name, 11) > width - 24 ? name.replace("  ", "<br>").replace(" × ", "<br>× ") : name);
  const texts = (layout.yaxis.ticktext ?? lanes).map((name) => (layout.barmode ? name.replace("<br>", " · ") : fit(name)));
  const lines = Math.max(...texts.map((text) => text.split("<br>").length));
  const tall = (layout.barmode ? 64 : 46) + 14 * (lines - 1);
  return {
    data,
    layout: {
      ...layout, height: tall * lanes.length + (data.length > 1 ? 110 : 84), bargap: layout.barmode ? 0.62 : 0.6, margin: { ...layout.margin, l: 10, r: 10, t: 24, b: 60 },
      xaxis: { ...layout.xaxis, tickangle: 0, nticks: 5 },
      yaxis: { ...layout.yaxis, showticklabels: false },
      annotations: lanes.map((lane, index) => ({
        xref: "paper", x: 0, y: lane, yshift: layout.barmode ? 20 : 10, yanchor: layout.barmode ? "auto" : "bottom", align: "left", xanchor: "left", showarrow: false, font: { size: 11 }, bgcolor: "#ffffff", text: texts[index],
      })),
    },
  };
};

// Rows that the names of a legend take, side by side as far as they fit.
const legendRows = (data, width) => {
  const names = data.filter((trace) => trace.name && trace.showlegend !== false).map(({ name }) => widthOf(name, 12) + 50);
  return names.length ? Math.ceil(names.length / Math.max(1, Math.floor(width / Math.max(...names)))) : 0;
};

const fitted = (figure, width) => {
  if (!isNarrow()) return figure;
  const { layout } = figure;
  if (layout.meta?.axes) return laidDown(figure, width);
  const data = figure.data.map((trace) => (trace.mode === "markers+text" ? { ...trace, mode: "markers" } : trace)); // there is no room for words
  if (layout.yaxis?.type === "category" || data[0]?.orientation === "h") return namedAbove({ data, layout }, width);
  const rows = Math.max(0, legendRows(data, width - 60) - 2);
  const copy = { ...layout, height: layout.height + 19 * rows, margin: { ...layout.margin, l: 44, r: 8, t: 16 } };
  if (copy.grid) {
    const panels = Object.keys(copy).filter((key) => /^xaxis\d*$/.test(key)).length;
    copy.grid = { ...copy.grid, rows: panels, columns: 1, ygap: 0.5 };
    copy.height = 190 * panels + 60;
  }
  return { ...figure, data, layout: copy };
};

// Exponential moving average, begun anew for each curve, without the pull of its start (as TensorBoard does).
const averaged = (values, weight) => {
  let sum = 0;
  let share = 0;
  return values.map((value) => {
    if (value === null) { sum = 0; share = 0; return null; }
    sum = weight * sum + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return sum / share;
  });
};

const smoothed = (data, weight) => data.flatMap((trace) => (trace.mode === "lines" && weight > 0
  ? [{ ...trace, opacity: 0.22, showlegend: false, hoverinfo: "skip", hovertemplate: null }, { ...trace, y: averaged(trace.y, weight) }]
  : [trace]));

export const dressed = (drawn, width, { smooth = 0, log = false } = {}) => {
  const layout = log ? { ...drawn.layout, yaxis: { ...drawn.layout.yaxis, type: "log" } } : drawn.layout;
  const { data, layout: fit } = fitted({ data: smoothed(drawn.data, smooth), layout }, width);
  return { data: coloured(data), layout: themed(fit) };
};
