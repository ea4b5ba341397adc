// The console's pages: keeps the numbers live over /console/live, draws the sparklines, opens a node's details.
import { connect } from "/static/live.js";
import { showQueues, showSteps } from "/static/cost.js";
import { format } from "/static/format.js";

const page = document.getElementById("live");
const SAMPLES = 120;
const KEPT = "millstream sparklines";
const history = new Map(Object.entries(JSON.parse(sessionStorage.getItem(KEPT) ?? "{}")));

function fill(root, values) {
  for (const place of root.querySelectorAll("[data-field]")) {
    const value = values[place.dataset.field];
    if (value === undefined) continue;
    const text = (format[place.dataset.format] ?? format.text)(value);
    if (place.textContent !== text) place.textContent = text;
    const number = place.closest(".number");
    if (number) number.dataset.zero = value ? "no" : "yes";
    if (place.dataset.state !== undefined) place.dataset.state = value;
    if (place.dataset.field === "fill" && values.fullest !== undefined) level(number, value, values.fullest);
  }
}

function level(number, fill, name) {
  number.title = fill ? `${name} is the fullest queue` : "all queues are empty";
  number.dataset.level = fill >= 0.8 ? "bad" : fill >= 0.4 ? "warn" : "";
}

function bar(box, name, share) {
  const place = box.querySelector(`[data-bar="${name}"]`);
  if (!place) return;
  place.firstElementChild.style.width = Math.min(100, share * 100).toFixed(1) + "%";
  place.dataset.level = share >= 0.8 ? "bad" : share >= 0.4 ? "warn" : "";
  place.title = format.percent(share);
}

function spark(card, rate) {
  const now = Math.round(Date.now() / 1000);
  const kept = history.get(card.dataset.flow) ?? { at: now, samples: [] };
  const away = Math.min(SAMPLES, now - kept.at - 1);  // another page was open meanwhile
  const samples = [...kept.samples, ...Array(Math.max(0, away)).fill(rate), rate].slice(-SAMPLES);
  history.set(card.dataset.flow, { at: now, samples });
  const most = Math.max(1, ...samples);
  const points = samples.map((sample, index) => `${SAMPLES - samples.length + index + 1},${(34 - (sample / most) * 31).toFixed(1)}`);
  const start = SAMPLES - samples.length + 1;
  card.querySelector(".spark .line").setAttribute("d", "M" + points.join("L"));
  card.querySelector(".spark .area").setAttribute("d", `M${start},36L${points.join("L")}L${SAMPLES},36Z`);
}

function showLedger(section, line) {
  if (!section || line.ledger.received === undefined) return;
  section.hidden = false;
  fill(section, { ...line.ledger, balance: line.alarm ? "unbalanced" : "balanced" });
}

function showFlow(line) {
  const card = page.querySelector(`[data-flow="${CSS.escape(line.name)}"]`);
  if (!card) return location.reload();  // a flow that was deployed after this page was made
  card.dataset.state = line.state;
  fill(card, line);
  card.querySelector(".trouble").hidden = !line.last_error || line.state === "running";
  card.querySelector(".alarm").hidden = !line.alarm;
  showLedger(page.querySelector(".ledger"), line);
  spark(card, line.rate_in);
}

function showCost(show, lines, gateway) {
  const sum = (name) => lines.reduce((total, line) => total + line[name], 0);
  show("cpu", format.percent(sum("cpu")));
  show("cpu_detail", `of a core; gateway ${format.percent(gateway.cpu)}`);
  show("rss", format.size(sum("rss")));
  show("rss_detail", `memory; gateway ${format.size(gateway.rss)}`);
}

function showSum(lines, gateway) {
  const running = lines.filter((line) => line.state === "running").length;
  const sum = (name) => lines.reduce((total, line) => total + line[name], 0);
  const show = (name, text, mood = "") => {
    const place = page.querySelector(`[data-sum="${name}"]`);
    place.textContent = text;
    place.dataset.mood = mood;
  };
  const parked = lines.some((line) => line.state === "parked");
  show("running", `${running} of ${lines.length}`, parked ? "bad" : running < lines.length ? "warn" : "");
  show("rate_in", format.rate(sum("rate_in")));
  show("rate_out", format.rate(sum("rate_out")));
  show("backlog", format.count(sum("backlog")));
  show("dead", format.count(sum("dead")), sum("dead") ? "bad" : "");
  showCost(show, lines, gateway);
}

function showNodes(nodes) {
  for (const [name, node] of Object.entries(nodes)) {
    const box = page.querySelector(`.node[data-node="${CSS.escape(name)}"]`);
    if (!box) return location.reload();
    fill(box, { ...node, share: node.own ? format.percent(node.cpu) : node.micros === null ? "" : "as a stretch" });
    const cost = box.querySelector(".cost");
    cost.dataset.own = node.own ? "yes" : "no";
    cost.hidden = node.micros === null && !node.waiting;
    bar(box, "cpu", node.own ? node.cpu : 0);
    bar(box, "fill", node.fill);
    box.querySelector(".dead").hidden = !node.dead;
    const lamp = box.querySelector(".lamp");
    lamp.dataset.lamp = node.state;
    lamp.title = node.detail ? `${node.state}: ${node.detail}` : node.state;
    const detail = document.querySelector(`[data-node-detail="${CSS.escape(name)}"]`);
    if (detail) fill(detail, node);
  }
  for (const wire of page.querySelectorAll(".wire")) {
    const rate = wire.dataset.port ? 0 : nodes[wire.dataset.source].rate;
    wire.classList.toggle("busy", rate > 0.05);
    wire.style.setProperty("--width", (1.6 + Math.min(4, Math.log10(1 + rate))).toFixed(1) + "px");
  }
}

function show(state) {
  if (state.flows) {
    if (!page.querySelector("[data-sum]")) return void (location.href = "/console");  // this page's flow is gone
    state.flows.forEach(showFlow);
    showSum(state.flows, state.gateway);
    return;
  }
  showFlow(state.flow);
  showNodes(state.nodes);
  showSteps(document.getElementById("steps"), state.steps);
  showQueues(document.getElementById("queues"), state.queues);
}

const detail = document.getElementById("detail");
const graph = page.querySelector(".graph");

function fit() {
  const room = graph.parentElement.clientWidth - 4, whole = parseFloat(graph.style.width);
  graph.style.zoom = Math.max(0.7, Math.min(1, room / whole)).toFixed(3);
}

function pick(box) {
  for (const other of page.querySelectorAll(".near, [aria-current]")) {
    other.classList.remove("near");
    other.removeAttribute("aria-current");
  }
  graph.classList.toggle("picked", Boolean(box));
  if (!box) return;
  box.setAttribute("aria-current", "true");
  box.classList.add("near");
  for (const wire of page.querySelectorAll(".wire")) {
    const { source, target } = wire.dataset;
    if (source !== box.dataset.node && target !== box.dataset.node) continue;
    wire.classList.add("near");
    for (const name of [source, target]) page.querySelector(`.node[data-node="${CSS.escape(name)}"]`).classList.add("near");
  }
}

async function open(box) {
  pick(box);
  const answer = await fetch(box.href);
  if (answer.status === 401) return void location.reload();
  detail.innerHTML = await answer.text();  // our own template, everything in it escaped
  detail.hidden = false;
  detail.scrollTop = 0;
  fit();
  box.scrollIntoView({ block: "nearest", inline: "center", behavior: "smooth" });
}

function close() {
  const current = page.querySelector("[aria-current]");
  detail.hidden = true;
  pick(null);
  fit();
  current?.focus();
}

if (detail) {
  fit();
  addEventListener("resize", fit);
  page.addEventListener("click", (event) => {
    const box = event.target.closest(".node");
    if (event.target.closest(".close")) close();
    if (!box || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    box.hasAttribute("aria-current") ? close() : open(box);
  });
  document.addEventListener("keydown", (event) => event.key === "Escape" && !detail.hidden && close());
}

addEventListener("pagehide", () => sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(history))));
show(JSON.parse(page.dataset.first));
connect("/console/live" + page.dataset.live, {
  message: show,
  state(state) {
    const link = document.getElementById("link");
    link.dataset.link = state;
    link.querySelector("span").textContent = state === "live" ? "live" : "reconnecting";
  },
  refused: () => (location.href = "/console/login?next=" + encodeURIComponent(location.pathname)),
});
