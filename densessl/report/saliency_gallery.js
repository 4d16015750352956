// Lets the reader filter and sort the pictures; without it the page shows them all in a plain grid.
"use strict";
(() => {
  const FIRST = 48;
  const byId = (name) => document.getElementById(`browse-${name}`);
  const grid = byId("grid");
  if (!grid) return;
  const controls = byId("controls"), more = byId("more"), status = byId("status");
  const show = byId("show"), sort = byId("sort"), text = byId("text"), low = byId("low"), high = byId("high");

  const cards = [...grid.children];
  const known = new Set(cards.map((card) => card.dataset.stem));
  for (const card of cards) card.dataset.sampled = "1";
  for (const card of document.querySelectorAll("section:not(#browse) .card")) {
    if (known.has(card.dataset.stem)) continue;
    known.add(card.dataset.stem);
    const copy = card.cloneNode(true);
    copy.querySelector(".stressed")?.classList.remove("stressed");
    cards.push(copy);
  }

  const isShown = {
    sample: (data) => data.sampled === "1",
    all: () => true,
    border: (data) => Number(data.edges) > 0,
    rejected: (data) => data.rejected === "1",
  };
  const number = (card, name) => (name in card.dataset ? Number(card.dataset[name]) : NaN);
  const byStem = (a, b) => (a.dataset.stem < b.dataset.stem ? -1 : a.dataset.stem > b.dataset.stem ? 1 : 0);
  const order = () => {
    const name = sort.value.replace("-", ""), sign = sort.value.startsWith("-") ? -1 : 1;
    if (name === "stem") return byStem;
    return (a, b) => {
      const left = number(a, name), right = number(b, name);
      if (Number.isNaN(left) || Number.isNaN(right)) return Number.isNaN(left) - Number.isNaN(right) || byStem(a, b);
      return sign * (left - right) || byStem(a, b);
    };
  };
  const isInRange = (card) => {
    const area = number(card, "area");
    if (Number.isNaN(area)) return low.value === "0" && high.value === "100";
    return area >= Number(low.value) && area <= Number(high.value);
  };

  let limit = FIRST;
  const draw = () => {
    const wanted = text.value.trim().toLowerCase();
    const matching = cards
      .filter((card) => isShown[show.value](card.dataset) && isInRange(card))
      .filter((card) => card.dataset.stem.toLowerCase().includes(wanted))
      .sort(order());
    grid.replaceChildren(...matching.slice(0, limit));
    more.hidden = matching.length <= limit;
    byId("low-value").textContent = `${low.value} %`;
    byId("high-value").textContent = `${high.value} %`;
    const shown = Math.min(limit, matching.length);
    const pictures = matching.length === 1 ? "picture matches" : "pictures match";
    status.textContent = matching.length
      ? `${matching.length} of the page's ${cards.length} ${pictures}${shown < matching.length ? `, ${shown} shown` : ""}`
      : `None of the page's ${cards.length} pictures matches; widen the filters.`;
  };
  const restart = () => { limit = FIRST; draw(); };

  low.addEventListener("input", () => { if (Number(low.value) > Number(high.value)) high.value = low.value; });
  high.addEventListener("input", () => { if (Number(high.value) < Number(low.value)) low.value = high.value; });
  controls.addEventListener("input", restart);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", () => setTimeout(restart));
  more.addEventListener("click", () => { limit += 2 * FIRST; draw(); });
  controls.hidden = false;
  draw();
})();
