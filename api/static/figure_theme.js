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

// Axes below each other: on a telephone, lines between upright axes cannot be told apart.
const laidDown = ({ data, layout }) => {
  const names = layout.xaxis.ticktext;
  const swapped = data.map((trace) => ({ ...trace, x: trace.y, y: trace.x }));
  const annotations = (layout.annotations ?? []).map((note) => ({
    ...note, x: note.y, y: note.x, yanchor: "top", xanchor: note.y < 0 ? "left" : note.y > 1 ? "right" : "center", yshift: -3, xshift: 0,
    ...(note.name === "choice" ? { textangle: -40, xanchor: "right", text: note.text.length > 14 ? `${note.text.slice(0, 13)}…` : note.text } : {}),
  }));
  names.forEach((name, index) => annotations.push({ x: 0, y: index, text: name.replaceAll("<br>", ""), showarrow: false, xanchor: "left", yanchor: "bottom", yshift: 3, font: { size: 11 } }));
  const many = layout.meta.axes[0].choices ? 60 : 0;
  return {
    data: swapped,
    layout: {
      ...layout, annotations, height: 92 * names.length + many, margin: { l: 10, r: 10, t: 20, b: 20 + many },
      xaxis: { ...layout.yaxis, range: [-0.04, 1.04] },
      yaxis: { tickvals: layout.xaxis.tickvals, showticklabels: false, showgrid: true, fixedrange: true, range: [names.length - 0.6, -0.5] },
    },
  };
};

// Names of workers above their bars, not beside them.
const namedAbove = ({ data, layout }) => ({
  data,
  layout: {
    ...layout, height: Math.max(200, 64 * layout.yaxis.tickvals.length + 110), bargap: 0.62, margin: { ...layout.margin, l: 10, r: 10 },
    yaxis: { ...layout.yaxis, showticklabels: false },
    annotations: layout.yaxis.tickvals.map((lane, index) => ({
      xref: "paper", x: 0, y: lane, yshift: 20, xanchor: "left", showarrow: false, font: { size: 11 }, text: layout.yaxis.ticktext[index].replace("<br>", " · "),
    })),
  },
});

const fitted = (figure) => {
  if (!isNarrow()) return figure;
  const { layout } = figure;
  if (layout.meta?.axes) return laidDown(figure);
  if (layout.yaxis?.type === "category" && layout.barmode) return namedAbove(figure);
  const copy = { ...layout, margin: { ...layout.margin, l: 44, r: 8 } };
  if (copy.grid) {
    const panels = Object.keys(copy).filter((key) => /^xaxis\d*$/.test(key)).length;
    copy.grid = { ...copy.grid, rows: panels, columns: 1, ygap: 0.6 };
    copy.height = 210 * panels + 60;
  }
  const data = figure.data.map((trace) => (trace.mode === "markers+text" ? { ...trace, mode: "markers" } : trace)); // there is no room for words
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

export const dressed = (drawn, { smooth = 0, log = false } = {}) => {
  const layout = log ? { ...drawn.layout, yaxis: { ...drawn.layout.yaxis, type: "log" } } : drawn.layout;
  const { data, layout: fit } = fitted({ data: smoothed(drawn.data, smooth), layout });
  return { data: coloured(data), layout: themed(fit) };
};
