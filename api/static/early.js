// What was typed or chosen before the scripts had come counts as if it were done now: else a field would say one thing and the
// page show another. On a way back the browser fills in fields by itself; what they say stands in the address by then.
const FIELDS = "[data-word], [data-submit], [data-filter-text], [data-search], [data-pick], [data-columns] input";

// Whether a field holds something else than the page was sent with.
export const isEdited = (field) => {
  if (field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
  const options = [...field.options];
  const isFirst = (option, index) => !field.multiple && index === 0 && !options.some((other) => other.defaultSelected);
  return options.some((option, index) => option.selected !== (option.defaultSelected || isFirst(option, index)));
};

const isFresh = () => performance.getEntriesByType("navigation")[0]?.type === "navigate";

// Must be asked before anything fills in fields. Returns what tells the page of them.
export const findEarly = () => {
  const early = isFresh() ? [...document.querySelectorAll(FIELDS)].filter(isEdited).map((field) => [field, field.value, field.checked]) : [];
  return () => {
    for (const [field, value, checked] of early) {
      if (field.type === "checkbox") field.checked = checked;
      else field.value = value;
      field.dispatchEvent(new Event(field.type === "search" ? "input" : "change", { bubbles: true }));
    }
  };
};
