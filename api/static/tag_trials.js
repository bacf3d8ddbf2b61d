// The dialog that adds tags to selected trials, or removes them.
export const askTags = (many, change) => new Promise((done) => {
  const dialog = document.getElementById("tag-trials");
  const form = dialog.querySelector("form");
  const problem = form.querySelector(".problem");
  form.reset();
  problem.textContent = "";
  form.querySelector("[data-many]").textContent = `${many} ${many === 1 ? "trial" : "trials"}`;
  const send = async (key) => {
    if (!form.reportValidity()) return;
    const tags = form.elements.tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
    try {
      await change({ [key]: tags });
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  form.onsubmit = (event) => { event.preventDefault(); send("add_tags"); };
  form.querySelector("[data-remove]").onclick = () => send("remove_tags");
  dialog.addEventListener("close", done, { once: true });
  dialog.showModal();
});
