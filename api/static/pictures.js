// Sliders through the slices of a case: every picture of the case follows, and the slices beside it are fetched ahead.
// A picture can be enlarged; there the arrow keys go through slices, trials and cases.
const sliceOf = (image, slice) => {
  const url = new URL(image.src);
  url.searchParams.set("slice", slice);
  return url.href;
};

const ahead = new Map();

const fetchAhead = (address) => {
  if (ahead.has(address)) return;
  const image = new Image();
  image.src = address;
  ahead.set(address, image);
  if (ahead.size > 200) ahead.delete(ahead.keys().next().value);
};

const move = (slider) => {
  const box = slider.closest("figure, [data-row]");
  const output = box.querySelector("output");
  const at = Number(slider.value);
  if (output) output.textContent = `${at + 1}/${Number(slider.max) + 1}`;
  for (const image of box.querySelectorAll("img[data-view]")) {
    image.src = sliceOf(image, at);
    for (const next of [at - 1, at + 1]) if (next >= 0 && next <= Number(slider.max)) fetchAhead(sliceOf(image, next));
  }
};

const step = (slider, by) => {
  if (!slider) return;
  const next = Math.min(Number(slider.max), Math.max(0, Number(slider.value) + by));
  if (next === Number(slider.value)) return;
  slider.value = next;
  move(slider);
};

const sliderOf = (image) => image.closest("figure, [data-row]")?.querySelector("[data-slice]");

let shown = null;

const show = (dialog, image) => {
  shown = image;
  const large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  const slider = sliderOf(image);
  dialog.querySelector("figcaption").textContent = slider ? `${image.alt}, slice ${Number(slider.value) + 1} of ${Number(slider.max) + 1}` : image.alt;
};

const enlarge = (image) => {
  let dialog = document.getElementById("lightbox");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "lightbox";
    dialog.setAttribute("aria-label", "Picture");
    const figure = document.createElement("figure");
    figure.append(document.createElement("img"), document.createElement("figcaption"));
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    const keys = document.createElement("p");
    keys.className = "quiet";
    keys.textContent = "← → slices · ↑ ↓ pictures";
    dialog.append(figure, keys, close);
    dialog.addEventListener("keydown", (event) => steer(dialog, event));
    dialog.addEventListener("close", () => shown?.closest("button")?.focus());
    document.body.append(dialog);
  }
  show(dialog, image);
  dialog.showModal();
};

const steer = (dialog, event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const other = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!by && !other) return;
  event.preventDefault();
  event.stopPropagation();
  if (by) step(sliderOf(shown), by);
  if (other) {
    const all = [...document.querySelectorAll("main img[data-view]")];
    shown = all[Math.min(all.length - 1, Math.max(0, all.indexOf(shown) + other))] ?? shown;
  }
  show(dialog, shown);
};

export const startPictures = () => {
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-slice]")) move(event.target);
  });
  document.addEventListener("click", (event) => {
    const image = event.target.closest("[data-zoom]")?.querySelector("img");
    if (image) enlarge(image);
  });
  document.addEventListener("keydown", (event) => {
    const image = event.target.closest?.("[data-zoom]")?.querySelector("img");
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!image || !by || document.getElementById("lightbox")?.open) return;
    event.preventDefault();
    event.stopPropagation();
    step(sliderOf(image), by);
  }, true);
};
