// Without this script the page is whole: code opens piece by piece, contents are links.
const pieces = [...document.querySelectorAll("details.code")];
const all = document.querySelector("#all-code");
if (all && pieces.length) {
  const show = (on) => {
    all.setAttribute("aria-pressed", on);
    pieces.forEach((piece) => (piece.open = on));
  };
  all.parentElement.hidden = false;
  all.addEventListener("click", () => show(all.getAttribute("aria-pressed") !== "true"));
}

const contents = document.querySelector(".contents details");
if (contents) {
  const wide = matchMedia("(min-width: 62rem)");
  const fit = () => (contents.open = wide.matches);
  wide.addEventListener("change", fit);
  fit();
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const headings = [...links.keys()].map((id) => document.getElementById(decodeURIComponent(id)));
  const follow = () => {
    const passed = headings.filter((heading) => heading.getBoundingClientRect().top < innerHeight / 4);
    const current = passed.length ? links.get(encodeURI(passed.at(-1).id)) || links.get(passed.at(-1).id) : null;
    links.forEach((link) => (link === current ? link.setAttribute("aria-current", "location") : link.removeAttribute("aria-current")));
  };
  addEventListener("scroll", follow, { passive: true });
  follow();
}

document.querySelectorAll("th button").forEach((button) =>
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") === "descending";
    const key = (row) => row.cells[head.cellIndex].dataset.value;
    const order = (a, b) => (head.dataset.kind === "number" ? key(a) - key(b) : key(a).localeCompare(key(b)));
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
  }),
);

const runs = document.querySelector("#runs-data");
if (runs) {
  const facts = JSON.parse(runs.textContent);
  const chosen = [...document.querySelectorAll(".choose select")];
  const body = document.querySelector("#differences tbody");
  const compare = () => {
    const [a, b] = chosen.map((select) => facts[select.value]);
    const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => a[name] !== b[name]);
    body.replaceChildren(
      ...names.map((name) => {
        const row = document.createElement("tr");
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = name;
        row.append(head);
        [a[name], b[name]].forEach((value) => (row.insertCell().textContent = value ?? "not recorded"));
        return row;
      }),
    );
    document.querySelector("#same").hidden = names.length > 0;
    document.querySelector("#differences").hidden = names.length === 0;
  };
  chosen.forEach((select) => select.addEventListener("change", compare));
  compare();
}
