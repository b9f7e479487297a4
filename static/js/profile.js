// The profile's key fields: press a key and it is there; keys given twice are told before they are sent.
const form = document.querySelector("[data-keys]");
const fields = [...form.querySelectorAll(".key-field")];
const NAMES = { " ": "Space" };
const LEFT_ALONE = ["Tab", "Escape", "Shift", "Control", "Alt", "Meta", "CapsLock", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"];

function check() {
  const seen = new Map();
  let isFine = true;
  for (const field of fields) {
    const problem = field.closest(".key-row").querySelector("[data-problem]");
    const first = seen.get(field.value);
    const name = first && form.querySelector(`label[for=${first.id}]`).textContent;
    problem.textContent = first ? `Taken by “${name}”; choose another key.` : "";
    if (first) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    field.closest(".key-row").classList.toggle("is-own", field.value !== field.dataset.usual);
    if (first) isFine = false;
    else seen.set(field.value, field);
  }
  return isFine;
}

for (const field of fields) {
  field.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || LEFT_ALONE.includes(event.key)) return;
    event.preventDefault();
    if (event.key.length > 1 && event.key !== "Enter") return;
    field.value = NAMES[event.key] || (event.key.length === 1 ? event.key.toLowerCase() : event.key);
    check();
    field.select();
  });
  field.addEventListener("focus", () => field.select());
}
form.addEventListener("submit", (event) => {
  if (event.submitter?.name === "reset" || check()) return;
  event.preventDefault();
  form.querySelector("[aria-invalid=true]").focus();
});
check();
