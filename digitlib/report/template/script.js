// Without this script the page is whole: code opens piece by piece, contents are links.
document.querySelector(".bar [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

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

const button = (text, click) => {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", click);
  return made;
};

// A number of the confusion matrix leads to all images of errors; here it shows its own alone.
const cells = [...document.querySelectorAll("a[data-pair]")];
const images = cells.length && document.querySelector(cells[0].hash);
if (images) {
  const told = Object.assign(document.createElement("p"), { className: "told", hidden: true });
  const words = told.appendChild(document.createElement("span"));
  words.setAttribute("role", "status");
  const show = (pair) => {
    const all = [...images.children];
    all.forEach((one) => (one.hidden = pair && one.dataset.pair !== pair));
    const [digit, read] = (pair || "").split("-");
    words.textContent = pair && `${all.filter((one) => !one.hidden).length} of ${all.length}: ${digit} read as ${read}`;
    told.hidden = !pair;
  };
  told.append(button("Show all", () => show("")));
  images.before(told);
  cells.forEach((cell) => cell.addEventListener("click", () => show(cell.dataset.pair)));
}

// Figures have numbers. Their pictures open large, and can be kept.
const figures = [...document.querySelectorAll(".numbered > figure")];
const large = document.body.appendChild(document.createElement("dialog"));
figures.forEach((figure, place) => {
  figure.id = `figure-${place + 1}`;
  const picture = figure.querySelector(":scope > img");
  if (!picture) return;
  const name = `${document.querySelector("main").dataset.stem}-${figure.id}`;
  const take = figure.querySelector(".take") || figure.appendChild(document.createElement("p"));
  take.className = "take";
  take.querySelectorAll("a").forEach((link) => (link.download = `${name}.csv`));
  const keep = Object.assign(document.createElement("a"), { textContent: "Picture", href: picture.src, download: name });
  const open = button("Open large", () => {
    const copy = picture.cloneNode();
    copy.removeAttribute("style");
    const shape = picture.naturalWidth / picture.naturalHeight;
    copy.width = Math.max(picture.naturalWidth / 2, Math.min(innerWidth - 32, (innerHeight - 70) * shape));
    copy.removeAttribute("height");
    const top = document.createElement("div");
    top.append(button("Close", () => large.close()));
    large.setAttribute("aria-label", figure.querySelector("figcaption")?.textContent || "Figure");
    large.replaceChildren(top, copy);
    large.showModal();
  });
  take.prepend(open, keep);
});

// Tables whose headings are buttons are sorted: numbers by value, all else as text.
document.querySelectorAll("th button").forEach((button) =>
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") === "descending";
    const key = (row) => row.cells[head.cellIndex].textContent.trim();
    const value = (row) => parseFloat(key(row).replaceAll(",", "")) || 0;
    const order = (a, b) => (head.classList.contains("num") ? value(a) - value(b) : key(a).localeCompare(key(b)));
    head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
  }),
);
