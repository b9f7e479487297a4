// Runs before the first paint, so that a chosen theme never flashes. Who is signed in has a theme of their own, which the
// page comes with; this browser remembers it for the pages without a person, such as the one to sign in.
const ownTheme = document.documentElement.dataset.ownTheme;
try {
  if (ownTheme) localStorage.setItem("theme", ownTheme);
  const chosenTheme = localStorage.getItem("theme");
  if (chosenTheme === "light" || chosenTheme === "dark") document.documentElement.dataset.theme = chosenTheme;
} catch {
  // Without storage the device's own theme is right.
}
