"use strict";

// Tables sort by the buttons in their heads: first upwards, then downwards. Numbers lie in data-value.
for (const button of document.querySelectorAll("th > button.sort")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = Number(button.dataset.column);
    const body = table.tBodies[0];
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const rows = [...body.rows].map((row, place) => ({ row, place, key: key(row) }));
    const numbers = rows.every(({ key }) => key === "" || !Number.isNaN(Number(key)));
    rows.sort((a, b) => {
      if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1; // what is missing comes last
      const order = numbers ? Number(a.key) - Number(b.key) : a.key.localeCompare(b.key);
      return (up ? order : -order) || a.place - b.place;
    });
    body.append(...rows.map(({ row }) => row));
  });
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

// A table that is cut off fades at that side, and says that it can be scrolled.
for (const box of document.querySelectorAll(".wide")) {
  const hint = document.createElement("p");
  hint.className = "more";
  hint.textContent = "scroll for more columns →";
  hint.setAttribute("aria-hidden", "true");
  box.before(hint);
  const mark = () => {
    const hidden = box.scrollWidth - box.clientWidth;
    hint.hidden = hidden < 2;
    box.classList.toggle("cut", box.scrollLeft < hidden - 1);
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
  box.closest("details")?.addEventListener("toggle", mark);
}

// What is folded away is printed too.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.printed:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
