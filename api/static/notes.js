// Notes are edited where they stand. Those that were changed meanwhile by somebody else are shown, and nothing is lost.
import { send, toast } from "./actions.js";
import { refresh } from "./live.js";

const show = (section, editing) => {
  section.toggleAttribute("data-editing", editing);
  section.querySelector("form").hidden = !editing;
  section.querySelector("[data-edit]").hidden = editing;
  const shown = section.querySelector("[data-shown]");
  if (shown) shown.hidden = editing;
};

const edit = (section) => {
  show(section, true);
  const text = section.querySelector("textarea");
  text.focus();
  text.setSelectionRange(text.value.length, text.value.length);
};

const leave = (section) => {
  const text = section.querySelector("textarea");
  text.value = text.defaultValue;
  section.querySelector(".problem").textContent = "";
  section.querySelector("[data-theirs]").hidden = true;
  show(section, false);
  section.querySelector("[data-edit]").focus();
};

const isChanged = (section) => { const text = section.querySelector("textarea"); return text.value !== text.defaultValue; };

// What stands there now is shown beside what was typed; saving once more is meant then.
const showTheirs = async (section) => {
  const now = await send(section.dataset.notes, "GET");
  const text = section.querySelector("textarea");
  text.dataset.revision = now.notes_revision;
  section.querySelector(".problem").textContent = "Somebody has changed the notes meanwhile. Put both together here, then save again.";
  const theirs = section.querySelector("[data-theirs]");
  theirs.hidden = false;
  theirs.querySelector("pre").textContent = now.notes;
};

const save = async (section) => {
  const text = section.querySelector("textarea");
  const problem = section.querySelector(".problem");
  if (section.getAttribute("aria-busy") === "true") return;
  section.setAttribute("aria-busy", "true");
  problem.textContent = "";
  const sent = text.value;
  try {
    const answer = await send(section.dataset.notes, "PATCH", { notes: sent, notes_revision: Number(text.dataset.revision) });
    if (!answer) return;
    if (text.value !== sent) { // typed while they were sent: the field stays open
      text.defaultValue = sent;
      text.dataset.revision = answer.notes_revision;
      toast("Notes saved, but for what was typed meanwhile.");
      return;
    }
    section.removeAttribute("data-editing");
    document.activeElement.blur();
    await refresh();
    document.querySelector("[data-notes] [data-edit]")?.focus();
    toast("Notes saved.");
  } catch (error) {
    if (error.status === 409) await showTheirs(section);
    else problem.textContent = error.message;
  } finally {
    section.removeAttribute("aria-busy");
  }
};

export const startNotes = () => {
  document.addEventListener("click", (event) => {
    const section = event.target.closest?.("[data-notes]");
    if (!section) return;
    if (event.target.closest("[data-edit]")) edit(section);
    if (event.target.closest("[data-leave]") && (!isChanged(section) || confirm("Leave what you have typed?"))) leave(section);
  });
  document.addEventListener("submit", (event) => {
    const section = event.target.closest("[data-notes]");
    if (section) { event.preventDefault(); save(section); }
  });
  document.addEventListener("keydown", (event) => {
    const section = event.target.closest?.("[data-notes]");
    if (section && event.key === "Enter" && (event.ctrlKey || event.metaKey)) save(section);
  });
  addEventListener("beforeunload", (event) => {
    const section = document.querySelector("[data-notes][data-editing]");
    if (section && isChanged(section)) event.preventDefault();
  });
};
