"use strict";
// Tables that are sorted by their headings, and one that is searched. Without this script they are plain tables.

/** What a cell is sorted by: its first number in a column of numbers, else its text. */
function sortKey(cell, numeric) {
  const text = cell.textContent.trim();
  if (!numeric) return text;
  const found = text.replaceAll("−", "-").replaceAll(",", "").match(/-?\d+(\.\d+)?(e[-+]\d+)?/);
  return found ? Number(found[0]) : NaN;
}

/** Sorts by a heading; numbers begin with the largest, texts with the first. What is no number comes last. */
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], numeric = heading.classList.contains("n");
  const up = heading.ariaSort ? heading.ariaSort === "descending" : !numeric;
  const keys = new Map([...body.rows].map((row) => [row, sortKey(row.cells[heading.cellIndex], numeric)]));
  const order = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true })) * (up ? 1 : -1);
  const last = (key) => Number(Number.isNaN(key));
  const rows = [...keys].sort(([, a], [, b]) => last(a) - last(b) || (last(a) ? 0 : order(a, b)));
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows.map(([row]) => row));
}

for (const heading of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  button.addEventListener("click", () => sortBy(heading));
  heading.append(button);
}

const search = document.getElementById("search");
const rows = [...document.querySelectorAll("#token-table tbody tr")];

/** Hides the rows that the search form leaves out, and says how many are left. */
function filter() {
  const { model, domain, split, token } = search.elements;
  const text = token.value.toLowerCase().replaceAll(" ", "␣");
  let shown = 0;
  for (const row of rows) {
    const [ofToken, , , , , , , ofModel, ofDomain, ofSplit] = [...row.cells].map((cell) => cell.textContent.trim());
    const chosen = domain.value === "*worst" ? row.classList.contains("mark") : ["", ofDomain].includes(domain.value);
    const kept = chosen && ["", ofModel].includes(model.value) && ["", ofSplit].includes(split.value);
    row.hidden = !(kept && ofToken.toLowerCase().includes(text));
    shown += row.hidden ? 0 : 1;
  }
  search.querySelector("output").value = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
}

for (const link of document.querySelectorAll('a[href^="#"]')) {
  link.addEventListener("click", () => {
    if (link.dataset.domain) {
      search.elements.model.value = link.dataset.model;
      search.elements.domain.value = link.dataset.domain;
      search.elements.token.value = "";
      filter();
    }
    // Where the page is shown in a frame that follows no links, as MLflow does.
    document.querySelector(link.hash).scrollIntoView();
  });
}

document.documentElement.classList.add("scripted");
search.addEventListener("input", filter);
search.addEventListener("submit", (event) => event.preventDefault());
filter();
