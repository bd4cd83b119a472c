"use strict";
// Theme: automatic, light, dark, in turns.
const theme = document.getElementById("theme");
const themes = ["automatic", "light", "dark"];
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const next = themes[(themes.indexOf(root.dataset.theme || "automatic") + 1) % themes.length];
  if (next === "automatic") delete root.dataset.theme;
  else root.dataset.theme = next;
  theme.textContent = "Theme: " + next;
});

// The trace of one text: a slider, the rows of the table and the arrow keys all choose the layer that is shown.
const data = JSON.parse(document.getElementById("data").textContent);
if (data && data.layers) {
  const slider = document.getElementById("layer");
  const rows = Array.from(document.querySelectorAll("[data-layer]"));
  const words = Array.from(document.querySelectorAll(".w"));
  const shares = Array.from(document.querySelectorAll("[data-share]"));
  const top = document.getElementById("top");
  const cursor = document.getElementById("cursor");
  const span = document.getElementById("window");
  const percent = (value) => (value > 0 && value < 0.001 ? "<0.1 %" : (100 * value).toFixed(value >= 0.0995 ? 0 : 1) + " %");

  const show = (layer) => {
    slider.value = layer;
    const at = layer - data.first;
    slider.setAttribute("aria-valuetext", data.spoken[at]);
    document.getElementById("where").textContent = data.spoken[at];
    document.getElementById("why").textContent = data.notes[at];
    rows.forEach((row) => {
      const here = Number(row.dataset.layer) === layer;
      row.classList.toggle("here", here);
      row.querySelector("button").setAttribute("aria-pressed", String(here));
    });
    shares.forEach((row, place) => {
      row.querySelector("i").style.setProperty("--p", data.widths[at][place]);
      row.querySelector(".value").textContent = data.values[at][place];
    });
    cursor.setAttribute("transform", "translate(" + data.step * at + " 0)");
    if (span) {
      const full = layer >= data.window;
      span.setAttribute("visibility", full ? "visible" : "hidden");
      if (full) span.setAttribute("transform", "translate(" + data.step * (layer - data.window) + " 0)");
    }
    attend(at);
  };

  // Word attention: whole numbers, in 1/10000 of what [CLS] gave away up to this layer.
  const attend = (at) => {
    const given = data.attention[at];
    const most = Math.max(1, ...words.map((word) => given[Number(word.dataset.word)]));
    words.forEach((word) => word.style.setProperty("--a", (given[Number(word.dataset.word)] / most).toFixed(3)));
    const order = words.map((word) => Number(word.dataset.word)).filter((word) => given[word]).sort((a, b) => given[b] - given[a] || a - b);
    top.replaceChildren(
      ...order.slice(0, data.top).map((index) => {
        const item = document.createElement("li");
        const name = document.createElement("bdi");
        const share = document.createElement("b");
        name.textContent = words.find((word) => Number(word.dataset.word) === index).textContent;
        share.textContent = percent(given[index] / 10000);
        item.append(name, share);
        return item;
      }),
    );
    document.getElementById("special").textContent = percent(data.special[at] / 10000);
  };

  slider.addEventListener("input", () => show(Number(slider.value)));
  rows.forEach((row) => {
    row.addEventListener("click", () => show(Number(row.dataset.layer)));
    row.querySelector("button").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const next = step && rows[rows.indexOf(row) + step];
      if (!next) return;
      event.preventDefault();
      next.querySelector("button").focus();
      show(Number(next.dataset.layer));
    });
  });
  document.getElementById("walk").hidden = false;
  show(data.exit);
}
