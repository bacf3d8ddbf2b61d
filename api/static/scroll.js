// Tables that are wider than their place say so, and can be moved by the keyboard.
const check = (box) => {
  const beyond = box.scrollWidth - box.clientWidth;
  const isWide = beyond > 2;
  if ((isWide || box.scrollHeight - box.clientHeight > 2) && !box.hasAttribute("tabindex")) {
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    const title = box.closest("section, figure, details, div")?.querySelector("h2, h3, summary");
    box.setAttribute("aria-label", title?.textContent.trim() || "Table");
  }
  const hasMore = isWide && box.scrollLeft < beyond - 2;
  box.classList.toggle("more-right", hasMore);
  let note = box.nextElementSibling;
  if (!note?.matches(".more")) {
    if (!isWide) return;
    note = document.createElement("p");
    note.className = "more";
    note.textContent = "more columns →";
    note.setAttribute("aria-hidden", "true");
    box.after(note);
  }
  note.hidden = !hasMore;
};

const checkAll = () => document.querySelectorAll(".scroll").forEach(check);

export const startScroll = () => {
  checkAll();
  addEventListener("resize", checkAll);
  addEventListener("regionschange", checkAll);
  document.addEventListener("scroll", (event) => { if (event.target.matches?.(".scroll")) check(event.target); }, true);
};
