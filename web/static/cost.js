// What a flow's steps cost and what waits in its queues: two cards of its page, filled from what the page gets each second.
import { format } from "/static/format.js";

const MOST = 10;
const LABELS = { start: "start-up", read: "read and decode", stretch: "stateless nodes", keyed: "keyed", sink: "sink" };
const RESTS = { engine: "between the steps", io: "links and reports", threads: "drivers" };
const HINTS = {
  start: "all before the first event was read",
  read: "reading the inbox, and decoding what came",
  stretch: "nodes without memory run as one function; their time is that of all of them",
  keyed: "its events, timers and snapshots",
  sink: "what the worker does to write; what drivers do on threads of their own is under drivers",
  engine: "Bytewax, which carries chunks from step to step and keeps snapshots; waiting for work",
  io: "the thread that writes: links to the gateway, queues, reports",
  threads: "threads of their own, as those of a database's driver",
};
const QUEUES = { inbox: "inbox", lane: "sink", spill: "sink, on disk", clients: "slowest client" };

function cell(text, name = "", title = "") {
  const made = document.createElement("td");
  made.textContent = text;
  if (name) made.className = name;
  if (title) made.title = title;
  return made;
}

function barCell(share, kind) {
  const made = cell("", "meter");
  const bar = document.createElement("i");
  bar.className = "gauge";
  if (kind) bar.dataset.kind = kind;
  else bar.dataset.level = share >= 0.8 ? "bad" : share >= 0.4 ? "warn" : "";
  const full = document.createElement("i");
  full.style.width = Math.min(100, share * 100).toFixed(1) + "%";
  bar.append(full);
  made.append(bar, document.createTextNode(format.percent(share)));
  return made;
}

function named(strong, soft, title) {
  const made = cell("", "what", title);
  const name = document.createElement("b");
  name.textContent = strong;
  const more = document.createElement("small");
  more.textContent = soft;
  made.append(name, more);
  return made;
}

function about(step) {
  if (step.kind === "stretch") return step.nodes.join(" · ") || `what leaves ${step.name}`;
  if (step.kind === "keyed") return step.keys ? `keyed, ${format.count(step.keys)} ${step.keys === 1 ? "key" : "keys"}, ${format.size(step.state)}` : "keyed";
  if (step.kind === "sink") return step.busy >= 0.0005 ? `sink, at work ${format.percent(step.busy)} of the time` : "sink";
  return HINTS[step.kind] ?? HINTS[step.name] ?? "";
}

function label(step) {
  return step.kind === "keyed" || step.kind === "sink" ? step.name : (LABELS[step.kind] ?? RESTS[step.name]);
}

function stepRow(step, whole) {
  const row = document.createElement("tr");
  row.append(
    named(label(step), about(step), HINTS[step.kind]),
    barCell(step.cpu, step.kind),
    cell(step.nodes.length ? format.rate(step.rate) : "", "n"),
    cell(step.nodes.length ? format.micros(step.micros) : "", "n"),
    cell(format.percent(step.seconds / whole), "n"),
  );
  return row;
}

function piece(step, whole) {
  const made = document.createElement("i");
  made.dataset.kind = step.kind;
  made.style.flexGrow = (step.seconds / whole).toFixed(5);
  made.title = `${label(step)}: ${format.percent(step.seconds / whole)}`;
  return made;
}

export function showSteps(card, steps) {
  const whole = steps.reduce((total, step) => total + step.seconds, 0);
  card.hidden = !whole;
  if (!whole) return;
  const shown = [...steps].sort((a, b) => b.seconds - a.seconds).slice(0, MOST);
  const order = steps.filter((step) => shown.includes(step));
  const left = steps.filter((step) => !shown.includes(step));
  card.querySelector(".stack").replaceChildren(...steps.filter((step) => step.seconds / whole > 0.002).map((step) => piece(step, whole)));
  card.querySelector("tbody").replaceChildren(...order.map((step) => stepRow(step, whole)));
  const rest = card.querySelector(".rest");
  rest.hidden = !left.length;
  const cpu = left.reduce((total, step) => total + step.cpu, 0);
  rest.textContent = `${left.length} more ${left.length === 1 ? "step takes" : "steps take"} ${format.percent(cpu)}.`;
}

export function showQueues(card, queues) {
  card.hidden = !queues.length;
  const shown = queues.filter((queue) => queue.kind === "inbox" || queue.kind === "clients" || queue.waiting);
  const rows = shown.map((queue) => {
    const row = document.createElement("tr");
    const name = queue.kind === "inbox" ? "inbox" : queue.name;
    row.append(named(name, queue.kind === "inbox" ? "not processed yet" : QUEUES[queue.kind]), barCell(queue.fill), cell(format.count(queue.waiting), "n"));
    return row;
  });
  card.querySelector("tbody").replaceChildren(...rows);
  const empty = queues.length - shown.length;
  const rest = card.querySelector(".rest");
  rest.hidden = !empty;
  rest.textContent = empty === 1 ? "The queue of one more sink is empty." : `The queues of ${empty} more sinks are empty.`;
}
