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

// Pictures open large, and can be kept.
const pictures = document.querySelectorAll(".numbered > figure > img");
if (pictures.length) {
  const large = document.body.appendChild(document.createElement("dialog"));
  pictures.forEach((picture, number) => {
    const figure = picture.parentElement;
    const take = figure.querySelector(".take") || figure.appendChild(document.createElement("p"));
    take.className = "take";
    const keep = Object.assign(document.createElement("a"), { textContent: "Picture", href: picture.src, download: figure.id });
    const open = button("Open large", () => {
      const copy = picture.cloneNode();
      copy.removeAttribute("style");
      const shape = picture.naturalWidth / picture.naturalHeight;
      copy.width = Math.max(picture.naturalWidth / 2, Math.min(innerWidth - 32, (innerHeight - 70) * shape));
      copy.removeAttribute("height");
      const top = document.createElement("div");
      top.append(button("Close", () => large.close()));
      large.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
      large.replaceChildren(top, copy);
      large.showModal();
    });
    take.prepend(open, keep);
  });
}

// A map of all images: it shows the one under the pointer, and the one that arrow keys lead to.
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const make = (name, facts) => Object.assign(document.createElement(name), facts);
document.querySelectorAll("img[data-points]").forEach((picture) => {
  const bytes = Uint8Array.from(atob(picture.dataset.points), (letter) => letter.charCodeAt());
  const count = bytes.length / 22; // of an image: its place, 2 x 2 bytes; two digits; 64 pixels of two bits
  const places = new Uint16Array(bytes.buffer, 0, 2 * count);
  const shape = picture.getAttribute("height") / picture.getAttribute("width");
  const place = (i) => [places[2 * i] / 65535, (places[2 * i + 1] / 65535) * shape]; // in widths of the picture
  const digits = (i) => [...bytes.subarray(4 * count + 2 * i, 4 * count + 2 * i + 2)];
  const nearest = ([left, top], cost) => {
    let [best, least] = [-1, Infinity];
    for (let i = 0; i < count; i += 1) {
      const [x, y] = place(i);
      const far = cost(x - left, y - top);
      if (far < least) [best, least] = [i, far];
    }
    return best;
  };

  const map = make("div", { className: "map", tabIndex: 0 });
  map.setAttribute("role", "application");
  map.setAttribute("aria-label", `Map of ${count.toLocaleString("en")} images; arrow keys lead from one to the next`);
  const ring = make("i", { hidden: true });
  const card = make("div", { hidden: true });
  const canvas = card.appendChild(make("canvas", { width: 8, height: 8 }));
  const words = card.appendChild(make("span", {}));
  const said = make("span", { className: "unseen" });
  said.setAttribute("aria-live", "polite");
  picture.replaceWith(map);
  map.append(picture, ring, card);
  map.after(said);

  let chosen = -1;
  const hide = (yes) => (ring.hidden = card.hidden = yes);
  const show = (i) => {
    if (i < 0) return;
    chosen = i;
    const [x, y] = place(i);
    const [digit, read] = digits(i);
    words.textContent = said.textContent = `${digit}${read === digit ? "" : ` read as ${read}`}, row ${i}`;
    const pen = canvas.getContext("2d");
    bytes.subarray(6 * count + 16 * i, 6 * count + 16 * i + 16).forEach((four, at) =>
      [6, 4, 2, 0].forEach((bits, next) => {
        pen.fillStyle = `rgb(${Array(3).fill(255 - 85 * ((four >> bits) & 3))})`;
        pen.fillRect((4 * at + next) % 8, at >> 1, 1, 1);
      }),
    );
    [ring, card].forEach((one) => Object.assign(one.style, { left: `${100 * x}%`, top: `${(100 * y) / shape}%` }));
    card.style.transform = `translate(${-100 * x}%, ${2 * y > shape ? "calc(-100% - 1rem)" : "1rem"})`;
    hide(false);
  };
  const point = ({ clientX, clientY }) => {
    const box = picture.getBoundingClientRect();
    const at = [(clientX - box.left) / box.width, (clientY - box.top) / box.width];
    show(nearest(at, (x, y) => (Math.hypot(x, y) < 0.06 ? Math.hypot(x, y) : Infinity)));
  };
  map.addEventListener("pointermove", point);
  map.addEventListener("pointerdown", point);
  map.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide(true);
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    const ahead = (x, y) => {
      const [far, aside] = [x * way[0] + y * way[1], Math.abs(x * way[1] + y * way[0])];
      return far > 0 && aside <= far ? far + aside : Infinity;
    };
    show(chosen < 0 ? nearest([0.5, shape / 2], Math.hypot) : nearest(place(chosen), ahead));
  });

  const take = map.parentElement.querySelector(".take");
  take.prepend(make("span", { textContent: "Point at a digit, or use the arrow keys. Images have four greys here." }));
  const wrong = [...Array(count).keys()].filter((i) => digits(i)[0] !== digits(i)[1]);
  if (wrong.length) take.append(button("Next mistake", () => show(wrong.find((i) => i > chosen) ?? wrong[0])));
});

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
  const table = document.querySelector("#differences");
  const compare = () => {
    const [a, b] = chosen.map((select) => facts[select.value]);
    const [first, second] = chosen.map((select) => select.selectedOptions[0].text);
    const differ = (group) => Object.keys({ ...a[group], ...b[group] }).filter((name) => a[group][name] !== b[group][name]);
    const rows = ["settings", "results", "made with"].flatMap((group) =>
      differ(group).map((name) => {
        const row = document.createElement("tr");
        const head = row.appendChild(document.createElement("th"));
        head.scope = "row";
        head.textContent = name;
        [a, b].forEach((one) => (row.insertCell().textContent = one[group][name] ?? "none"));
        return row;
      }),
    );
    table.tBodies[0].replaceChildren(...rows);
    table.hidden = !rows.length;
    const { settings: mine } = a;
    const { settings: theirs } = b;
    const both = differ("settings").filter((name) => name in mine && name in theirs);
    const words = both.map((name) => `${name} ${mine[name]} instead of ${theirs[name]}`);
    const told = words.length ? `${first} has ${words.join("; ")} (${second}).` : "The settings are the same.";
    document.querySelector("#told").textContent = rows.length ? told : "Nothing that was recorded differs.";
  };
  chosen.forEach((select) => select.addEventListener("change", compare));
  compare();
}
