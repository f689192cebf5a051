// Sets the colours before the first paint: the system's wish, or what was chosen here before.
const KEY = "headwater.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function kept() {
  try { return localStorage.getItem(KEY); } catch { return null; }
}

function apply() {
  document.documentElement.dataset.theme = kept() || (system.matches ? "dark" : "light");
}

apply();
system.addEventListener("change", apply);

addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.addEventListener("click", () => {
      const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem(KEY, other); } catch { /* private windows forget, which is fine */ }
      document.documentElement.dataset.theme = other;
    });
  }
});
