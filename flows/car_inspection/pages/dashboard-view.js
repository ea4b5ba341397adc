// How the board of the inspection line looks. Whatever devices say is put in as text.
const DOTS = 12;           // up to so many verdicts of a car are drawn one by one
const MOST_CARS = 40;
const RECENT = 15 * 60_000;
const SCALES = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1];

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat();
const percent = new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const round = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const byName = new Intl.Collator(undefined, { numeric: true });
const count = (number, one, many) => `${whole.format(number)} ${number === 1 ? one : many}`;
const defects = (number) => count(number, "defect", "defects");

const TITLE = document.title;
const STATES = { connecting: "Connecting…", live: "Live", waiting: "Reconnecting…", refused: "Not logged in" };

function timeText(at) {
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) return "";
  const today = time.toDateString() === new Date().toDateString();
  return today ? clock.format(time) : `${day.format(time)}, ${clock.format(time)}`;
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** Say only what has changed: a screen reader and a selection stay undisturbed. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make the children of a list those of `items`, by key; who stays keeps its element. */
function place(list, items, make, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let next = list.firstElementChild;
  for (const item of items) {
    const node = old.get(item.key) ?? make(item);
    node.dataset.key = item.key;
    old.delete(item.key);
    update(node, item);
    if (node === next) next = next.nextElementSibling;
    else list.insertBefore(node, next);
  }
  for (const node of old.values()) node.remove();
}

// ---- the whole

export function draw(board, openPicture) {
  const statistics = board.statistics ?? {};
  const cars = latestCars(statistics, board);
  drawNow(board, cars);
  drawNumbers(statistics, cars, board);
  drawDevices(statistics);
  drawTrend(cars);
  drawCars(cars);
  drawFeed(board, openPicture);
  say($("updated"), statistics.updated_at ? `Updated ${timeText(statistics.updated_at)}` : "No data yet");
}

export function showLink(state) {
  $("link").dataset.state = document.body.dataset.link = state;
  say($("link").querySelector("b"), STATES[state]);
}

export function showUnseen(number) {
  document.title = number ? `(${number}) ${TITLE}` : TITLE;
}

function latestCars({ by_car = {} }, { progress, defects }) {
  const cars = new Map(Object.entries(by_car).map(([id, of]) => [Number(id), { ...of }]));
  if (progress && !cars.has(progress.car_id)) cars.set(progress.car_id, { total: 0, ok: 0, defect: 0 });
  const seen = new Set([...defects].filter((defect) => defect.camera).map((defect) => defect.car));
  return [...cars].map(([id, of]) => ({ key: String(id), id, ...of, camera: seen.has(id) })).sort((a, b) => b.id - a.id);
}

// ---- the car on the line

function drawNow({ progress, passed, defects }, cars) {
  const car = cars.find(({ id }) => id === progress?.car_id) ?? cars[0];
  if (!car) return drawTrack({ car_id: 0, stage: 0, stages: 3 }, passed);
  const onLine = progress ?? { car_id: car.id, stage: 0, stages: 3 };
  const bad = defects.filter((defect) => defect.car === car.id).reverse();
  $("now").dataset.mood = car.defect || bad.length ? "bad" : "good";
  say($("car"), `Car ${car.id}`);
  const at = passed.get(1) ?? passed.get(onLine.stage);
  $("entered").dataset.at = at ?? "";
  sinceEntered();
  drawVerdicts(car, bad);
  drawTrack(onLine, passed);
}

function drawVerdicts(car, bad) {
  const chips = [{ key: "ok", text: car.total ? `${whole.format(car.ok)} OK` : "no verdict yet", mood: car.ok ? "good" : "idle" }];
  for (const defect of bad) chips.push({ key: defect.key, text: defect.what, mood: "bad" });
  const unnamed = car.defect - bad.filter((defect) => !defect.camera).length;
  if (unnamed > 0) chips.push({ key: "more", text: defects(unnamed), mood: "bad" });
  place($("verdicts"), chips, () => element("li", "chip"), (chip, { text, mood }) => {
    say(chip, text);
    chip.title = text;
    chip.dataset.mood = mood;
  });
}

function drawTrack({ car_id, stage, stages }, passed) {
  const track = $("track"), vehicle = $("vehicle");
  const steps = Array.from({ length: stages }, (_, index) => ({ key: String(index + 1), number: index + 1 }));
  place($("stages"), steps, makeStage, (node, { number }) => {
    node.dataset.state = number < stage ? "passed" : number === stage ? "here" : "ahead";
    say(node.querySelector("time"), passed.has(number) ? timeText(passed.get(number)) : "");
  });
  track.setAttribute("aria-valuemax", stages);
  track.setAttribute("aria-valuenow", stage);
  track.setAttribute("aria-valuetext", stage ? `stage ${stage} of ${stages}` : "before the first stage");
  if (track.dataset.car !== String(car_id)) {
    vehicle.classList.add("entering");
    track.style.setProperty("--way", "0");
    void vehicle.getBoundingClientRect();
    vehicle.classList.remove("entering");
  }
  track.dataset.car = car_id;
  const way = stage ? (stage - 0.5) / stages : 0.25 / stages;
  if (track.style.getPropertyValue("--way") === String(way)) return;
  track.style.setProperty("--way", way);
  track.classList.remove("moving");
  void track.getBoundingClientRect();
  track.classList.add("moving");
}

function makeStage({ number }) {
  const stage = element("li");
  stage.append(element("i", "", String(number)), element("b", "", `Stage ${number}`), element("time"));
  return stage;
}

function sinceEntered() {
  const { at } = $("entered").dataset;
  if (!at) return say($("entered"), "");
  const seconds = Math.max(0, Math.round((Date.now() - new Date(at)) / 1000));
  const lasts = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  say($("entered"), `entered ${timeText(at)}${seconds * 1000 < RECENT ? ` · ${lasts} min` : ""}`);
}
setInterval(sinceEntered, 1000);

// ---- numbers

function drawNumbers({ total = 0, ok = 0, defect = 0, defect_rate = 0, cars = 0, camera }, latest, { before }) {
  const judged = latest.slice(1).filter((car) => car.total);
  const clean = judged.filter((car) => !car.defect && !car.camera).length;
  const today = before === null ? null : Math.max(0, (latest[0]?.id ?? 0) - before);
  tile("rate", total ? percent.format(defect_rate) : "–", total ? `${whole.format(defect)} of ${count(total, "verdict", "verdicts")}` : "stations’ verdicts", defect > 0);
  tile("clean", judged.length ? round.format(clean / judged.length) : "–", judged.length ? `${whole.format(clean)} of the latest ${whole.format(judged.length)}` : "of the latest cars");
  tile("total", whole.format(total), `${whole.format(ok)} OK`);
  tile("cars", whole.format(today ?? cars), today === null ? "in all" : `today · ${whole.format(cars)} in all`);
  const seen = camera?.total ?? 0;
  tile("camera", seen ? percent.format(camera.defect_rate) : "–", seen ? `${whole.format(camera.defect)} of ${count(seen, "view", "views")}` : "no view yet");
}

function tile(name, number, note, bad = false) {
  const tile = $("numbers").querySelector(`[data-of=${name}]`);
  say(tile.querySelector("dd"), number);
  say(tile.querySelector("p"), note);
  tile.dataset.mood = bad ? "bad" : "";
}

// ---- lists

function filled(section, any) {
  $(section).dataset.empty = any ? "no" : "yes";
}

function drawDevices({ by_device = {}, camera }) {
  const rows = Object.entries(by_device).map(([name, of]) => ({ key: `d-${name}`, name, ...of }));
  rows.sort((a, b) => b.defect_rate - a.defect_rate || b.total - a.total || byName.compare(a.name, b.name));
  if (camera?.total) rows.push({ key: "camera", name: "Camera", apart: true, ...camera });
  const worst = Math.max(0, ...rows.map((row) => row.defect_rate));
  const scale = SCALES.find((step) => worst <= step) ?? 1;
  say($("scale"), rows.length ? `bars to ${round.format(scale)}` : "");
  filled("devices", rows.length);
  place($("devices").querySelector("ul"), rows, makeDevice, (node, row) => {
    node.classList.toggle("apart", row.apart === true);
    node.querySelector(".meter i").style.width = `${(100 * row.defect_rate) / scale}%`;
    say(node.querySelector(".rate"), percent.format(row.defect_rate));
    say(node.querySelector(".counts"), `${whole.format(row.defect)} of ${whole.format(row.total)}`);
  });
}

function makeDevice({ name }) {
  const node = element("li", "device"), meter = element("span", "meter"), title = element("b", "name", name);
  title.title = name;
  meter.append(element("i"));
  node.append(title, meter, element("span", "rate"), element("span", "counts soft"));
  return node;
}

/** The latest cars from left to right; the height is the number of a car's defects, the camera's verdict among them. */
function drawTrend(cars) {
  const bars = cars.filter((car) => car.total || car.camera).reverse()
    .map((car) => ({ key: car.key, id: car.id, bad: car.defect + (car.camera ? 1 : 0) }));
  const most = Math.max(3, ...bars.map(({ bad }) => bad));
  $("trend").hidden = bars.length < 2;
  say($("trend").querySelector("figcaption"), `Defects of each of the latest ${whole.format(bars.length)} cars`);
  const chart = $("trend").querySelector("div");
  chart.setAttribute("aria-label", `${whole.format(bars.filter(({ bad }) => bad).length)} of them have a defect`);
  place(chart, bars, () => element("i"), (bar, { id, bad }) => {
    bar.className = bad ? "bad" : "";
    bar.style.height = `${(100 * bad) / most}%`;
    bar.title = `Car ${id}: ${defects(bad)}`;
  });
}

function drawCars(cars) {
  filled("cars", cars.length);
  place($("cars").querySelector("ul"), cars.slice(0, MOST_CARS), makeCar, (node, car) => {
    node.dataset.mood = car.defect || car.camera ? "bad" : car.total ? "good" : "idle";
    dots(node.querySelector(".dots"), car);
    const words = [car.ok && `${whole.format(car.ok)} OK`, car.defect && defects(car.defect), car.camera && "camera"];
    say(node.querySelector(".counts"), words.filter(Boolean).join(" · ") || "no verdict yet");
  });
}

function makeCar({ id }) {
  const node = element("li", "car");
  node.append(element("b", "name", `Car ${id}`), element("span", "dots"), element("span", "counts"));
  return node;
}

function dots(node, { ok, defect, camera }) {
  const all = ok + defect, drawn = Math.min(all, DOTS);
  const bad = all > DOTS && defect ? Math.max(1, Math.round((DOTS * defect) / all)) : defect;
  const kinds = [...Array(drawn - bad).fill("good"), ...Array(bad).fill("bad"), ...(camera ? ["camera"] : [])];
  place(node, kinds.map((kind, index) => ({ key: String(index), kind })), () => element("i"), (dot, { kind }) => { dot.className = kind; });
}

function drawFeed({ defects, fresh }, openPicture) {
  filled("feed", defects.length);
  place($("feed").querySelector("ul"), defects, (item) => makeDefect(item, fresh.has(item.key)), (node, defect) => {
    if (node.querySelectorAll("button").length === defect.images.length) return;
    node.querySelector(".pictures").replaceChildren(...defect.images.map((address, index) => thumbnail(defect, address, index, openPicture)));
  });
  const newest = defects[0];
  say($("feed-note"), newest ? `latest ${timeText(newest.at)}` : "");
}

function makeDefect({ what, car, at, camera }, fresh) {
  const node = element("li", `defect${fresh ? " fresh" : ""}${camera ? " of-camera" : ""}`);
  const name = element("b", "name", what), when = element("time", "soft", timeText(at));
  name.title = what;
  when.dateTime = at;
  node.append(name, element("span", "of", `Car ${car}`), when, element("div", "pictures"));
  return node;
}

function thumbnail({ key, car }, address, index, openPicture) {
  const button = element("button"), image = element("img");
  image.alt = `Picture ${index + 1} of car ${car}`;
  image.loading = "lazy";
  image.decoding = "async";
  image.width = 320;
  image.height = 240;
  image.onerror = () => button.replaceChildren(element("span", "soft", "no picture"));
  image.src = address;
  button.type = "button";
  button.append(image);
  button.onclick = () => openPicture(key, index);
  return button;
}

// ---- one picture, large

let pictures = [], shown = 0;

export function showPicture(all, index) {
  [pictures, shown] = [all, Math.max(0, index)];
  turn(0);
  $("picture").showModal();
}

function turn(step) {
  const next = shown + step;
  if (!pictures[next]) return;
  shown = next;
  const { address, number, defect } = pictures[shown], image = $("picture").querySelector("img");
  image.src = address;
  image.alt = `Picture ${number + 1} of car ${defect.car}`;
  const place = defect.images.length > 1 ? ` · picture ${number + 1} of ${defect.images.length}` : "";
  say($("picture").querySelector("figcaption"), `Car ${defect.car} · ${timeText(defect.at)}${place}`);
  $("picture").querySelector("[data-step='-1']").disabled = !pictures[shown - 1];
  $("picture").querySelector("[data-step='1']").disabled = !pictures[shown + 1];
}

$("picture").addEventListener("click", ({ target }) => {
  const step = target.closest("button")?.dataset.step;
  if (step && step !== "0") turn(Number(step));
  else if (target.tagName !== "FIGCAPTION") $("picture").close();
});
$("picture").addEventListener("keydown", ({ key }) => turn({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0));
