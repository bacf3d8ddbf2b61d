// Tables that are wider than their place say so, and can be moved by the keyboard.
const titleOf = (box) => {
  for (let part = box.parentElement; part && part.id !== "content"; part = part.parentElement) {
    const before = [...part.querySelectorAll("h1, h2, h3, summary")].filter((title) => title.compareDocumentPosition(box) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (before.length) return before.at(-1).textContent.trim().replace(/\s+/g, " ");
  }
  return "Table";
};

// Regions of one page have names of their own: a list of them tells which is which.
const nameOf = (box) => {
  const title = titleOf(box);
  const taken = new Set([...document.querySelectorAll("[role=region]")].map((other) => other.getAttribute("aria-label")));
  let name = title;
  for (let turn = 2; taken.has(name); turn += 1) name = `${title} ${turn}`;
  return name;
};

const check = (box) => {
  const beyond = box.scrollWidth - box.clientWidth;
  const isWide = beyond > 2;
  if ((isWide || box.scrollHeight - box.clientHeight > 2) && !box.hasAttribute("tabindex")) {
    box.tabIndex = 0;
    const name = nameOf(box);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", name);
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
