// The sheet to draw on, and what the page shows of its reading. Places are in units of the sheet.
const [WIDTH, HEIGHT, PEN] = [360, 240, 17];
const find = (name) => document.querySelector(name), images = pixelsOf(told.images);
const field = find("#field"), sheet = document.createElement("canvas"), known = new Map();
let strokes = [], pen = null, at = [WIDTH / 2, HEIGHT / 4], frame = 0, waiting = 0, settling = 0;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

function ink(canvas, paper, dark) {
  const context = canvas.getContext("2d", { willReadFrequently: canvas === sheet });
  context.setTransform(canvas.width / WIDTH, 0, 0, canvas.height / HEIGHT, 0, 0);
  const look = { fillStyle: paper, strokeStyle: dark, lineCap: "round", lineJoin: "round" };
  Object.assign(context, look, { lineWidth: PEN }).fillRect(0, 0, WIDTH, HEIGHT);
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...stroke[0]);
    stroke.forEach((place) => context.lineTo(...place));
    context.stroke();
  }
  return context;
}

// Square pictures of numbers with a gap between them; the larger a number, the stronger.
function paint(canvas, pictures, side, most, strong, across = 1) {
  canvas.width = across * (side + 1) - 1;
  canvas.height = Math.ceil(pictures.length / across) * (side + 1) - 1;
  const context = canvas.getContext("2d"), ground = colour("ground");
  pictures.forEach((picture, n) => picture.forEach((value, i) => {
    const x = (n % across) * (side + 1) + (i % side);
    const y = Math.floor(n / across) * (side + 1) + Math.floor(i / side);
    const share = Math.min(1, Math.max(0, value / most));
    for (const [fillStyle, globalAlpha] of [[ground, 1], [strong, share]])
      Object.assign(context, { fillStyle, globalAlpha }).fillRect(x, y, 1, 1);
  }));
}

// While the pen moves one view answers at once; when it rests, the mean over all that Python takes.
function sharesOf(pixels) {
  const name = pixels.join();
  if (!known.has(name)) settling ||= setTimeout(settle, 60, name, pixels);
  return known.get(name) ?? classify(pixels, [[0, 0]]);
}
function settle(name, pixels) {
  settling = 0;
  known.set(name, classify(pixels));
  later();
}

function read() {
  if (!strokes.length) return [];
  const [[x, width], [y, height]] = [0, 1].map((axis) => { // with paper around, for all that blurs
    const along = strokes.flat().map((place) => place[axis]), start = Math.min(...along) - PEN;
    return [Math.floor(start), Math.ceil(Math.max(...along) + PEN) - Math.floor(start)];
  });
  const { data } = ink(sheet, "#fff", "#000").getImageData(x, y, width, height);
  const found = digitsOf({ width, height, data: data.filter((_, i) => i % 4 === 0) });
  return found.map(({ pixels, left, right }) => {
    const shares = sharesOf(pixels);
    const order = range(shares.length).sort((a, b) => shares[b] - shares[a]);
    return { pixels, shares, order, middle: x + (left + right) / 2, digit: told.classes[order[0]] };
  });
}

function show() {
  frame = 0;
  settling = clearTimeout(settling);
  const context = ink(field, colour("paper"), colour("ink"));
  if (field.matches(":focus-visible")) { // where the keyboard's pen is
    context.lineWidth = 2;
    context.strokeStyle = colour("accent");
    const [x, y] = at;
    context.stroke(new Path2D(`M${x - PEN} ${y}h${2 * PEN}M${x} ${y - PEN}v${2 * PEN}`));
  }
  const found = read(), far = (one) => Math.abs(one.middle - at[0]);
  const one = [...found].sort((a, b) => far(a) - far(b))[0]; // the one at the pen
  const { pixels, shares, order, digit } = one ?? { pixels: new Uint8Array(64) };
  find("#answer").textContent = found.map((each) => each.digit).join("") || "–";
  const guess = (i) => `${told.classes[i]} with ${percent(shares[i])}`;
  const [first, second] = one ? order.map(guess) : [];
  const which = found.length > 1 ? `${found.length} digits. The one at the pen: ` : "";
  const unsure = one && shares[order[0]] < told.doubt
    ? " Less sure than of 99 in 100 digits that were held out: doubt it." : "";
  const words = one ? `${which}${first}, then ${second}.${unsure}` : "Nothing is drawn yet.";
  find("#words").textContent = words;
  document.querySelectorAll(".bars li").forEach((bar, i) => {
    const share = one ? shares[i] : 0;
    bar.classList.toggle("first", share > 0 && i === order[0]);
    bar.querySelector("i").style.inlineSize = `${100 * share}%`;
    bar.querySelector("span").textContent = percent(share);
  });
  paint(find("#seen"), [pixels], 8, 16, colour("ink"));
  const [network] = told.networks, { outputs } = network.stages[0];
  const [maps, side] = forward([scaled(pixels, network), 8], network.stages[0]);
  const shown = range(Math.min(outputs, 64)).map((c) => maps.filter((_, i) => i % outputs === c));
  const most = one ? Math.max(largest(maps), 1e-9) : Infinity;
  paint(find("#maps"), shown, side, most, colour("accent"), outputs > 32 ? 14 : 8);
  nearest(pixels, one);
  clearTimeout(waiting); // those who listen hear of it when the pen rests
  const heard = one ? `It reads ${found.map((each) => each.digit).join(" ")}: ${words}` : words;
  waiting = setTimeout(() => (find("#said").textContent = heard), 800);
}

function nearest(pixels, drawn) {
  const apart = told.labels.map((_, row) => {
    let squares = 0;
    for (let i = 0; i < 64; i++) squares += (pixels[i] - images[64 * row + i]) ** 2;
    return squares;
  });
  const rows = drawn ? range(apart.length).sort((a, b) => apart[a] - apart[b]) : [];
  document.querySelectorAll("#similar li").forEach((place, i) => {
    const row = rows[i];
    const image = row === undefined ? new Uint8Array(64) : images.subarray(64 * row, 64 * row + 64);
    paint(place.querySelector("canvas"), [image], 8, 16, colour("ink"));
    place.querySelector("span").textContent = row === undefined ? "–" : told.labels[row];
  });
}

const later = () => (frame ||= requestAnimationFrame(show));
const within = (x, most) => Math.min(most - PEN, Math.max(PEN, x)); // ink at the edge is left out
function go(x, y) {
  at = [within(x, WIDTH), within(y, HEIGHT)];
  if (pen) pen.push(at);
  later();
}
const begin = () => strokes.push((pen = []));
function lift() {
  pen = null;
  later();
}
const undo = () => { strokes.pop(); lift(); };
const clear = () => { strokes = []; lift(); };

const place = ({ clientX, clientY }) => {
  const { left, top, width, height } = field.getBoundingClientRect();
  return [((clientX - left) * WIDTH) / width, ((clientY - top) * HEIGHT) / height];
};
field.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button) return;
  field.setPointerCapture(event.pointerId);
  begin();
  go(...place(event));
});
field.addEventListener("pointermove", (event) => {
  if (!event.isPrimary || !event.buttons || !pen) return;
  const all = event.getCoalescedEvents?.() ?? [];
  (all.length ? all : [event]).forEach((one) => go(...place(one)));
});
["pointerup", "pointercancel"].forEach((name) => field.addEventListener(name, lift));

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
field.addEventListener("keydown", (event) => {
  const step = KEYS[event.key]?.map((part) => part * (event.shiftKey ? 20 : 5));
  if (event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key !== "z") return;
    undo();
  } else if (step) go(at[0] + step[0], at[1] + step[1]);
  else if (event.key === " " && !event.repeat) pen ? lift() : (begin(), go(...at));
  else if (event.key === "Backspace") undo();
  else if (event.key === "Delete") clear();
  else if (event.key !== " ") return;
  event.preventDefault();
});
// Who holds the space bar while moving lifts the pen with it; who taps it, with the next tap.
field.addEventListener("keyup", (event) => event.key === " " && pen?.length > 1 && lift());
["focus", "blur"].forEach((name) => field.addEventListener(name, later));
find("#undo").addEventListener("click", undo);
find("#clear").addEventListener("click", clear);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);

[sheet.width, sheet.height] = [WIDTH, HEIGHT];
new ResizeObserver(() => {
  field.width = field.clientWidth * devicePixelRatio;
  field.height = field.clientHeight * devicePixelRatio;
  later();
}).observe(field);
classify(range(64).map((i) => i % 17)); // once for nothing: the first answer is as quick as others
