// Buttons and dialogs that write. Errors are shown in the server's own words.
import { refresh } from "./live.js";

export const toast = (text, bad = false) => {
  const box = document.createElement("div");
  box.className = bad ? "toast bad" : "toast";
  box.textContent = text;
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), bad ? 12_000 : 4_000);
};

export const send = async (url, method = "POST", body = undefined) => {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 401) { location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`); return null; }
  const content = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  const error = content.error ?? { message: `the server answers ${answer.status}` };
  throw Object.assign(new Error([error.message, error.hint].filter(Boolean).join("\n")), { status: answer.status });
};

const press = async (button) => {
  if (button.getAttribute("aria-busy") === "true") return;
  const question = button.dataset.confirm;
  if (question && !confirm(question)) return;
  const url = button.dataset.url ?? button.closest("[data-api]").dataset.api + button.dataset.post;
  button.setAttribute("aria-busy", "true"); // disabled, it would lose the focus
  try {
    const body = button.dataset.body ? JSON.parse(button.dataset.body) : undefined;
    if (await send(url, button.dataset.method, body)) {
      if (button.dataset.then) location.assign(button.dataset.then);
      else { toast(button.dataset.said ?? `${button.textContent.trim()}: done`); await refresh(); }
    }
  } catch (error) {
    toast(error.message, true);
  } finally {
    button.removeAttribute("aria-busy");
  }
};

const filled = (form) => {
  if (form.dataset.number) return { [form.dataset.number]: Number(form.elements[form.dataset.number].value) };
  if (form.dataset.list) return { [form.dataset.list]: form.elements[form.dataset.list].value.split(",").map((part) => part.trim()).filter(Boolean) };
  if (form.dataset.text) return { [form.dataset.text]: form.elements[form.dataset.text].value.trim() };
  if (form.dataset.params === undefined) return undefined;
  const params = {};
  for (const field of form.querySelectorAll("[name]")) {
    if (field.value === "" || field.closest("[hidden]")) continue;
    params[field.name] = field.tagName === "SELECT" ? JSON.parse(field.value) : Number(field.value);
  }
  return { params };
};

// Text that must be typed is compared as it is: a pattern that a browser cannot read would be passed over.
const isConfirmed = (form) => form.dataset.typed === undefined || form.elements.confirm.value === form.dataset.typed;

const showConfirmed = (form) => { form.querySelector("[type=submit]").disabled = !isConfirmed(form); };

const submit = async (form) => {
  const problem = form.querySelector(".problem");
  problem.textContent = "";
  if (!isConfirmed(form)) { problem.textContent = `Type ${form.dataset.typed} to confirm.`; return; }
  if (form.getAttribute("aria-busy") === "true") return; // sent twice, it would be done twice
  form.setAttribute("aria-busy", "true");
  try {
    const answer = await send(form.dataset.send, form.dataset.method ?? "POST", filled(form));
    if (!answer) return;
    form.closest("dialog").close();
    toast("number" in answer && form.dataset.params !== undefined ? `Trial ${answer.number} is next.` : "Done.");
    if (form.dataset.toStudy !== undefined) location.assign(`/studies/${encodeURIComponent(answer.name)}${form.dataset.toStudy}`);
    else if (form.dataset.then) location.assign(form.dataset.then);
    else await refresh();
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    form.removeAttribute("aria-busy");
  }
};

// Options of a loss are shown only while that loss is chosen.
const showBranches = (form) => {
  for (const label of form.querySelectorAll("[data-when]")) {
    const chosen = form.elements[label.dataset.switch]?.value;
    label.hidden = !chosen || String(JSON.parse(chosen)) !== label.dataset.when;
  }
};

// A dialog shows the study as it is now: the page may have stood open for long, or be ahead of its last poll.
const openDialog = async (dialog) => {
  await refresh();
  if (dialog.open) return; // asked for twice: it may be filled in already
  const form = dialog.querySelector("form");
  form.reset();
  form.querySelector(".problem").textContent = "";
  if (form.dataset.typed !== undefined) showConfirmed(form);
  if (form.dataset.params !== undefined) showBranches(form);
  dialog.showModal();
};

export const startActions = () => {
  document.addEventListener("click", (event) => {
    const target = event.target.closest("button, a");
    if (!target) return;
    if (target.dataset.post || target.dataset.url) press(target);
    if (target.dataset.dialog) {
      target.closest("details")?.removeAttribute("open");
      openDialog(document.getElementById(target.dataset.dialog));
    }
    if ("close" in target.dataset) target.closest("dialog").close();
    if ("themeToggle" in target.dataset) dispatchEvent(new Event("toggletheme"));
    if (target.dataset.copy) {
      const source = document.querySelector(target.dataset.copy);
      navigator.clipboard?.writeText(source.value ?? source.textContent).then(() => toast("Copied."));
    }
  });
  for (const form of document.querySelectorAll("form[data-send]")) {
    form.addEventListener("submit", (event) => { event.preventDefault(); submit(form); });
    if (form.dataset.typed !== undefined) form.addEventListener("input", () => showConfirmed(form));
    if (form.dataset.params !== undefined) {
      form.addEventListener("change", () => showBranches(form));
      showBranches(form);
    }
  }
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && event.target.closest?.("details.menu[open]");
    if (open) { open.open = false; open.querySelector("summary").focus(); }
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
    if (link) link.click();
    else if (event.key === "t") dispatchEvent(new Event("toggletheme"));
    else if (event.key === "g") location.assign("/");
    else if (event.key === "/") { const search = document.querySelector("[data-search]"); event.preventDefault(); if (search) search.focus(); else location.assign("/#search"); }
  });
};
