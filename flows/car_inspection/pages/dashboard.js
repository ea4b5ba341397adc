// The board of the inspection line: what arrives, and from where. How it looks is dashboard-view.js.
//
// Live events come over /ws/dashboard. A new client gets the statistics only, so the page asks once more for what was
// sent before them. Who is logged in also gets the latest defects from the database.
import { connect } from "/static/live.js";
import { draw, showLink, showPicture, showUnseen } from "./dashboard-view.js";

const BEFORE = 300;        // how many earlier events a new page asks for
const KEPT = 60;           // how many defects the feed holds
const CHECK_EVERY = 15_000, AGAIN = 2_000, ANSWER_WITHIN = 6_000;   // milliseconds
const TOKEN = "millstream.token";
const CAMERA = "Camera";

const page = document.documentElement;
const open = page.dataset.open === "yes";
const $ = (id) => document.getElementById(id);

const board = {
  statistics: null, progress: null, passed: new Map(), defects: new Map(), before: null, fresh: new Set(),
};
let line, last = "", rewinding = false, heard = false, unseen = 0, drawing = 0, settling = 0, asked = 0, checking = 0;

const token = () => sessionStorage.getItem(TOKEN) ?? "";
const linkState = () => $("link").dataset.state;
const mayAsk = () => Boolean(token()) || !open;

// ---- live events

const events = {
  stats_update(data) { board.statistics = data; },
  car_added({ car_id }) { begin(car_id); },
  progress(data) {
    begin(data.car_id);
    board.progress = data;
    board.passed.set(data.stage, data.at);
  },
  sensor_defect(data) { arrived(stationDefect(data)); },
  camera_defect(data) { arrived(cameraDefect(data, data.images)); },
};

function begin(car) {
  if (board.progress?.car_id === car) return;
  board.progress = { car_id: car, stage: 0, stages: 3 };
  board.passed = new Map();
}

const stationDefect = ({ id, device, car_id, created_at }) =>
  ({ key: `station-${id}`, what: device, car: car_id, at: created_at, images: [] });
const cameraDefect = ({ id, car_id, created_at }, images) =>
  ({ key: `camera-${id}`, what: CAMERA, camera: true, car: car_id, at: created_at, images: (images ?? []).filter(ours) });
const ours = (address) => typeof address === "string" && address.startsWith("/media/");

function arrived(defect) {
  if (board.defects.has(defect.key)) return add(defect);
  add(defect);
  if (rewinding) return;
  board.fresh.add(defect.key);
  if (document.hidden) showUnseen(++unseen);
}

function add(defect) {
  const known = board.defects.get(defect.key);
  if (known && known.images.length >= defect.images.length) return;
  board.defects.set(defect.key, defect);
  if (board.defects.size <= KEPT) return;
  const oldest = [...board.defects.values()].sort(oldestFirst)[0];
  board.defects.delete(oldest.key);
}

const oldestFirst = (a, b) => Date.parse(a.at) - Date.parse(b.at) || (a.key < b.key ? -1 : 1);
const newestFirst = () => [...board.defects.values()].sort(oldestFirst).reverse();

function message({ event, data, id }) {
  heard = true;
  showLink("live");
  if (id) last = id;
  if (event === "stats") snapshot(data, id);
  else events[event]?.(data);
  if (rewinding) settling ||= setTimeout(settle, 500);
  redraw();
}

function snapshot(data, id = "") {
  board.statistics = data;
  if (rewinding || !rewind(id)) catchUp();
}

/** Connect once more, from some events before the snapshot on; false: there were none. */
function rewind(id) {
  const cut = id.lastIndexOf("-"), number = Number(id.slice(cut + 1));
  if (!(number > 0)) return false;
  rewinding = true;
  last = `${id.slice(0, cut)}-${Math.max(0, number - BEFORE)}`;
  start();
  return true;
}

function settle() {
  rewinding = false;
  settling = 0;
  catchUp();
}

function redraw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw({ ...board, defects: newestFirst() }, openPicture);
    board.fresh.clear();
  });
}

// ---- the connection

function start() {
  line?.close();
  line = connect("/ws/dashboard", {
    query: () => ({ token: token(), after: last }),
    message,
    state: changed,
    refused,
  });
}

function changed(state) {
  if (state === "waiting") {
    showLink(heard ? "waiting" : "connecting");
    check();
  } else if (heard) showLink(state);
}

function refused(code) {
  const had = token();
  sessionStorage.removeItem(TOKEN);
  showAccount();
  showLink("refused");
  if (code === 4403) askToLogIn("This account may not see the line. Log in with another.");
  else askToLogIn(had ? "Your log-in has ended. Log in again." : undefined);
}

/** See whether the gateway answers: a network that is cut says nothing to an open connection, nor that it is back. */
async function check() {
  clearTimeout(checking);
  const before = linkState(), signal = AbortSignal.timeout(ANSWER_WITHIN);
  const answers = await fetch("/health/live", { cache: "no-store", signal }).then(() => true, () => false);
  const now = linkState();
  if (before === now && (now === "live" ? !answers : now === "waiting" && answers)) {
    showLink("waiting");
    start();
  }
  clearTimeout(checking);
  checking = setTimeout(check, (linkState() === "waiting" ? AGAIN : CHECK_EVERY) * (0.75 + Math.random() / 2));
}

// ---- what was before, from the database

async function ask(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function catchUp() {
  if (!mayAsk() || Date.now() - asked < 900) return;
  asked = Date.now();
  await Promise.allSettled([latestDefects(), latestPictures(), beforeToday()]);
  redraw();
}

async function latestDefects() {
  for (const row of await ask("/sensor/defects?limit=20")) add(stationDefect(row));
}

async function latestPictures() {
  const most = Math.min(1000, 20 * (Number(page.dataset.pictures) || 5));
  const [results, images] = await Promise.all([ask("/camera/result?result=DEFECT&limit=20"), ask(`/camera/images?limit=${most}`)]);
    for (const row of results) {
    const own = images.filter((image) => image.camera_result_id === row.id).sort((a, b) => a.id - b.id);
    add(cameraDefect(row, own.map((image) => image.image_path)));
  }
}

/** Cars are numbered without gaps: the last one of yesterday tells how many came today. */
async function beforeToday() {
  const midnight = new Date(new Date().setHours(0, 0, 0, 0));
  const [car] = await ask(`/car/all?limit=1&until=${encodeURIComponent(midnight.toISOString())}`);
  board.before = car?.id ?? 0;
  clearTimeout(beforeToday.timer);
  beforeToday.timer = setTimeout(catchUp, midnight.setDate(midnight.getDate() + 1) - Date.now() + 1000);
}

// ---- log in, log out

function showAccount() {
  $("account").hidden = !open && !token();
  $("account").textContent = token() ? "Log out" : "Log in";
}

function askToLogIn(why = "This board is for the line’s employees.") {
  $("login-why").textContent = why;
  if (!$("login").open) $("login").showModal();
}

async function logIn(form) {
  const answer = await fetch("/auth/login", {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify(Object.fromEntries(new FormData(form))),
  });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(answer.status === 401 ? "The name or the password is wrong." : body.error?.message ?? "That did not work. Try again.");
  sessionStorage.setItem(TOKEN, body.access_token);
}

$("login").addEventListener("cancel", (event) => { if (!open) event.preventDefault(); });
$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, fault = $("login-fault"), button = form.querySelector("button");
  button.disabled = true;
  fault.hidden = true;
  try {
    await logIn(form);
    form.reset();
    $("login").close();
    showAccount();
    asked = 0;
    if (heard && open) catchUp(); else start();
  } catch (reason) {
    fault.textContent = reason instanceof TypeError ? "The gateway does not answer. Try again." : reason.message;
    fault.hidden = false;
  } finally {
    button.disabled = false;
  }
});
$("account").addEventListener("click", () => {
  if (!token()) return askToLogIn("Who is logged in also sees earlier defects and today’s cars.");
  sessionStorage.removeItem(TOKEN);
  location.reload();
});

function openPicture(key, index) {
  const pictures = newestFirst().flatMap((defect) => defect.images.map((address, number) => ({ address, number, defect })));
  showPicture(pictures, pictures.findIndex(({ defect, number }) => defect.key === key && number === index));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  showUnseen(unseen = 0);
  check();
});
addEventListener("offline", check);
addEventListener("online", check);
check();
showAccount();
redraw();
start();
