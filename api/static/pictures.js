// Sliders through the slices of a case: every picture of the case follows.
const move = (slider) => {
  const box = slider.closest("figure, [data-row]");
  const output = box.querySelector("output");
  if (output) output.textContent = `${Number(slider.value) + 1}/${Number(slider.max) + 1}`;
  for (const image of box.querySelectorAll("img[data-view]")) {
    const url = new URL(image.src);
    url.searchParams.set("slice", slider.value);
    image.src = url;
  }
};

export const startPictures = () => {
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-slice]")) move(event.target);
  });
};
