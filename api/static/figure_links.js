// A trial is one thing wherever it shows: pointing at it in a figure, or at its row, marks it in every other figure and row,
// and shows what it predicted. In parallel coordinates a stretch of an axis selects the trials that pass it.
import { filters, setFilter } from "./words.js";
import { isNarrow } from "./figure_theme.js";

const SVG = "http://www.w3.org/2000/svg";
let lit = null;
let pending = 0;

const placeOf = (axis, value) => {
  const at = axis.d2p ? axis.d2p(value) : NaN;
  return Number.isFinite(at) && at >= -1 && at <= axis._length + 1 ? axis._offset + at : null;
};

const axisOf = (plot, letter, name) => plot._fullLayout[`${letter}axis${(name ?? letter).slice(1)}`];

// Marks lie above the figure, so that nothing is drawn anew while the pointer moves.
const mark = (plot, number) => {
  plot.querySelector(":scope > svg.marks")?.remove();
  if (number === null || !plot.data || !plot._fullLayout) return;
  const layer = document.createElementNS(SVG, "svg");
  layer.setAttribute("class", "marks");
  layer.setAttribute("aria-hidden", "true");
  for (const trace of plot.data) {
    if (!Array.isArray(trace.customdata) || trace.opacity < 0.3) continue;
    const [xs, ys] = [axisOf(plot, "x", trace.xaxis), axisOf(plot, "y", trace.yaxis)];
    if (!xs || !ys || trace.type === "bar") continue;
    let line = [];
    trace.customdata.forEach((data, index) => {
      if (data?.[0] !== number || trace.y[index] === null) return;
      const [x, y] = [placeOf(xs, trace.x[index]), placeOf(ys, trace.y[index])];
      if (x === null || y === null) return;
      if (trace.mode?.includes("lines")) line.push(`${x},${y}`);
      else {
        const ring = document.createElementNS(SVG, "circle");
        for (const [key, value] of Object.entries({ cx: x, cy: y, r: 7 })) ring.setAttribute(key, value);
        layer.append(ring);
      }
    });
    if (line.length > 1) {
      const path = document.createElementNS(SVG, "polyline");
      path.setAttribute("points", line.join(" "));
      layer.append(path);
    }
  }
  if (layer.childElementCount) plot.append(layer);
};

const peek = (number, study) => {
  let card = document.getElementById("peek");
  if (number === null || !study) { if (card) card.hidden = true; return; }
  if (!card) {
    card = document.createElement("figure");
    card.id = "peek";
    card.setAttribute("aria-hidden", "true");
    const image = document.createElement("img");
    image.alt = "";
    image.addEventListener("load", () => { card.hidden = lit === null; });
    image.addEventListener("error", () => { card.hidden = true; });
    card.append(image, document.createElement("figcaption"));
    document.body.append(card);
  }
  const image = card.querySelector("img");
  const address = `/studies/${encodeURIComponent(study)}/trials/${number}/thumbnail`;
  card.querySelector("figcaption").textContent = `trial ${number}`;
  if (image.getAttribute("src") === address && image.naturalWidth) card.hidden = false;
  else { card.hidden = true; image.src = address; }
};

export const light = (number, study) => {
  if (number === lit) return;
  lit = number;
  cancelAnimationFrame(pending);
  pending = requestAnimationFrame(() => {
    for (const row of document.querySelectorAll("[data-trial]")) row.classList.toggle("lit", Number(row.dataset.trial) === lit);
    for (const plot of document.querySelectorAll(".plot.js-plotly-plot")) mark(plot, lit);
    if (!isNarrow()) peek(lit, study);
  });
};

const study = () => document.querySelector("[data-tab]")?.dataset.study;

export const linkHover = (plot) => {
  plot.removeAllListeners?.("plotly_hover");
  plot.removeAllListeners?.("plotly_unhover");
  plot.on("plotly_hover", (event) => { const number = event.points[0]?.customdata?.[0]; if (Number.isInteger(number)) light(number, study()); });
  plot.on("plotly_unhover", () => light(null));
};

// Which lines of parallel coordinates pass all filters: heights of a line by axis, as shares.
const shareOf = (axis, value) => (axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low) : axis.high > axis.low ? (value - axis.low) / (axis.high - axis.low) : 0.5);

const valueOf = (axis, share) => (axis.log ? axis.low * (axis.high / axis.low) ** share : axis.low + share * (axis.high - axis.low));

const passes = (axes, heights) => {
  const chosen = filters();
  return axes.every((axis, index) => {
    const wish = chosen.get(axis.name);
    if (!wish) return true;
    if (axis.choices) return wish.choices?.includes(axis.choices[Math.round(heights[index] * axis.choices.length - 0.5)]);
    const slack = 2e-4;
    return heights[index] >= shareOf(axis, wish.low) - slack && heights[index] <= shareOf(axis, wish.high) + slack;
  });
};

// Lines that are not selected are pale and lie below.
export const brushed = (drawn) => {
  const { axes } = drawn.layout.meta;
  const wide = axes.length + 1;
  const faint = { type: "scatter", mode: "lines", x: [], y: [], customdata: [], line: { color: "#d6d3d1", width: 1 }, opacity: 0.25, hoverinfo: "skip", showlegend: false };
  const kept = drawn.data.map((trace) => {
    const own = { ...trace, x: [], y: [], customdata: [] };
    for (let from = 0; from < trace.x.length; from += wide) {
      const target = passes(axes, trace.y.slice(from, from + axes.length)) ? own : faint;
      for (const key of ["x", "y", "customdata"]) target[key].push(...trace[key].slice(from, from + wide));
    }
    return own;
  });
  return { ...drawn, data: [faint, ...kept] };
};

const shapesOf = (axes) => {
  const chosen = filters();
  return axes.flatMap((axis, index) => {
    const wish = chosen.get(axis.name);
    if (!wish) return [];
    const wide = 0.5 / (axis.choices?.length ?? 1);
    const spans = axis.choices
      ? wish.choices.map((choice) => axis.choices.indexOf(choice)).filter((at) => at >= 0).map((at) => (at + 0.5) / axis.choices.length).map((at) => [at - wide, at + wide])
      : [[shareOf(axis, wish.low), shareOf(axis, wish.high)]];
    return spans.map(([low, high]) => span(index, low, high));
  });
};

const span = (index, low, high) => {
  const [across, along] = [[index - 0.035, index + 0.035], [Math.max(-0.02, low), Math.min(1.02, high)]];
  const [xs, ys] = isNarrow() ? [along, across] : [across, along];
  return { type: "rect", x0: xs[0], x1: xs[1], y0: ys[0], y1: ys[1], fillcolor: getComputedStyle(document.documentElement).getPropertyValue("--accent").trim(), opacity: 0.4, line: { width: 0 } };
};

export const withShapes = (layout) => ({ ...layout, shapes: shapesOf(layout.meta.axes) });

// A stretch that is dragged along an axis becomes a filter; a click on an axis takes its filter away.
export const enableBrush = (plot, axes) => {
  plot.brushAxes = axes;
  if (plot.canBrush) return;
  plot.canBrush = true;
  plot.classList.add("brushable");
  let drag = null;
  const at = (event) => {
    const { left, top } = plot.getBoundingClientRect();
    const { xaxis, yaxis } = plot._fullLayout;
    const [x, y] = [xaxis.p2l(event.clientX - left - xaxis._offset), yaxis.p2l(event.clientY - top - yaxis._offset)];
    return isNarrow() ? [y, x] : [x, y];
  };
  plot.addEventListener("pointerdown", (event) => {
    const [across, along] = at(event);
    const index = Math.round(across);
    if (event.button !== 0 || Math.abs(across - index) > 0.2 || !plot.brushAxes[index] || along < -0.08 || along > 1.08) return;
    drag = { index, from: along, to: along };
    plot.setPointerCapture(event.pointerId);
    event.preventDefault();
    event.stopPropagation();
  }, true);
  plot.addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.to = at(event)[1];
    const [low, high] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    window.Plotly.relayout(plot, { shapes: [...shapesOf(plot.brushAxes), span(drag.index, low, high)] });
  });
  plot.addEventListener("pointerup", () => {
    if (!drag) return;
    const axis = plot.brushAxes[drag.index];
    const [low, high] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)].map((share) => Math.min(1, Math.max(0, share)));
    const wasClick = Math.abs(drag.from - drag.to) < 0.012;
    drag = null;
    if (axis.choices) {
      const near = axis.choices.filter((_, place) => { const share = (place + 0.5) / axis.choices.length; return wasClick ? Math.abs(share - low) <= 0.5 / axis.choices.length : share >= low && share <= high; });
      const before = filters().get(axis.name)?.choices ?? [];
      const same = near.length === before.length && near.every((choice) => before.includes(choice));
      setFilter(axis.name, near.length && !same ? { choices: near } : null);
    } else setFilter(axis.name, wasClick ? null : { low: valueOf(axis, low), high: valueOf(axis, high) });
  });
};

export const startLinks = () => {
  const over = (event) => {
    const row = event.target.closest?.("[data-trial]");
    light(row ? Number(row.dataset.trial) : null, study());
  };
  document.addEventListener("pointerover", (event) => { if (!event.target.closest?.(".plot")) over(event); });
  document.addEventListener("focusin", over);
};
