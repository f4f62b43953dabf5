"use strict";
const faces = [...document.querySelectorAll("[data-id]")];
const plain = (text) => (/^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text); // no formula, see escape_formula
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

function count() {
  const done = faces.filter((face) => face.querySelector("select").value).length;
  document.getElementById("done").textContent = `${done} of ${faces.length} looked at`;
}

for (const face of faces) {
  const review = face.querySelector("select");
  review.addEventListener("change", count);
  face.querySelector("button").addEventListener("click", () => {
    review.value = face.dataset.suggested;
    count();
  });
}

for (const button of document.querySelectorAll("[data-accept]")) {
  button.addEventListener("click", () => {
    for (const face of faces) {
      const review = face.querySelector("select");
      if (face.dataset.suggested === button.dataset.accept && !review.value) review.value = button.dataset.accept;
    }
    count();
  });
}

document.getElementById("save").addEventListener("click", () => {
  const rows = faces.map((face) =>
    [face.dataset.id, face.dataset.suggested, face.dataset.confidence, face.querySelector("select").value].map(plain).map(quoted)
  );
  const text = [["id", "suggested", "confidence", "type"], ...rows].map((row) => row.join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = document.getElementById("save").dataset.name;
  link.click();
  URL.revokeObjectURL(link.href);
});

count();
