"use strict";
// Pages can be read without this file: links and :target do the selecting. It saves jumps, and adds keys and sorting.

const rows = [...document.querySelectorAll(".row")];

function clear() {
  for (const old of document.querySelectorAll(".selected")) old.classList.remove("selected");
}

function select(node) {
  clear();
  const article = document.getElementById("n" + node);
  if (!article) return;
  document.body.classList.add("scripted");
  article.classList.add("selected");
  article.parentElement.scrollTop = 0;
  for (const link of document.querySelectorAll(`[data-node="${node}"]`)) link.classList.add("selected");
  history.replaceState(null, "", "#n" + node);
}

document.addEventListener("click", (event) => {
  if (event.target.closest(".close")) {
    event.preventDefault();
    document.body.classList.add("scripted");
    clear();
    history.replaceState(null, "", location.pathname);
    return;
  }
  const link = event.target.closest("[data-node]");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  select(link.dataset.node);
  const row = rows.find((one) => one.dataset.node === link.dataset.node);
  if (row && link !== row) document.getElementById("tree").scrollIntoView({ block: "nearest", behavior: "smooth" });
  if (row && link !== row) row.scrollIntoView({ block: "nearest" });
});

document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const shown = rows.filter((row) => row.offsetParent !== null);
  if (!step || !shown.length || event.target.matches("input")) return;
  event.preventDefault();
  const at = shown.findIndex((row) => row.classList.contains("selected"));
  const next = shown[Math.min(shown.length - 1, Math.max(0, at + step))];
  select(next.dataset.node);
  next.scrollIntoView({ block: "nearest" });
});

if (/^#n\d+$/.test(location.hash)) select(location.hash.slice(2));

const table = document.querySelector("table.problems");
if (table) {
  const body = table.tBodies[0];
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const falling = heading.getAttribute("aria-sort") !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[heading.cellIndex].dataset.value ?? row.cells[heading.cellIndex].textContent;
    const sorted = [...body.rows].sort((a, b) => value(a).localeCompare(value(b), "en", { numeric: true }));
    body.append(...(falling ? sorted.reverse() : sorted));
  });
}
