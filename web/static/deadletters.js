// The page of dead letters: opens a cause, edits data, and calls the API to retry or drop; the cookie is that of the session.
import { connect } from "/static/live.js";

const page = document.getElementById("deadletters");
const flow = encodeURIComponent(page.dataset.flow);
const api = `/api/flows/${flow}/deadletters`;
const AT_ONCE = 1000, SURE = 4000, LOOKS = 6, LOOK = 500;
const whole = (number) => number.toLocaleString("en");

async function post(what, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${api}/${what}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (answer.status === 401) location.reload();
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error.message);
  return found;
}

// A part of a page from our own template, everything in it escaped.
async function part(query) {
  const answer = await fetch(`/console/flows/${flow}/deadletters/letters?${query}`);
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`the gateway answers ${answer.status}`);
  return answer.text();
}

async function fill(group) {
  group.querySelector(".inside").innerHTML = await part(group.dataset.query);
}

async function earlier(button) {
  const text = await part(button.dataset.query);
  button.insertAdjacentHTML("beforebegin", text);
  button.remove();
}

function sure(button) {
  if (button.dataset.sure) return true;
  const text = button.textContent;
  button.dataset.sure = "asked";
  button.textContent = "Really drop?";
  setTimeout(() => { delete button.dataset.sure; button.textContent = text; }, SURE);
  return false;
}

async function all(group, button) {
  const { node, cause, count } = group.dataset;
  let after = 0, changed = 0, passed = {};
  for (const other of group.querySelectorAll("summary button")) other.disabled = true;
  while (after !== null) {
    const found = await post(button.dataset.do, { node, cause, state: page.dataset.state, after, limit: AT_ONCE });
    changed += found.changed;
    for (const [reason, many] of Object.entries(found.skipped)) passed[reason] = (passed[reason] ?? 0) + many;
    after = found.next;
    button.textContent = `${whole(changed)} of ${whole(Number(count))}`;
  }
  const left = Object.entries(passed).map(([reason, many]) => `${whole(many)} passed over: ${reason}`);
  done(group, `${whole(changed)} ${button.dataset.do === "drop" ? "dropped" : "in the flow again"}. ${left.join("; ")}`);
}

async function recount() {
  const answer = await fetch(`${api}?limit=0`);
  if (!answer.ok) return;
  const { states } = await answer.json();
  for (const place of page.querySelectorAll("[data-many]")) place.textContent = whole(states[place.dataset.many] ?? 0);
  known = states.new ?? 0;
}

function done(group, text) {
  group.open = false;
  group.querySelector("summary .do").textContent = text;
  group.classList.add("done");
}

// What became of a retried letter: it comes back where it fails again.
async function outcome(number) {
  for (let look = 0; look < LOOKS; look++) {
    await new Promise((resolve) => setTimeout(resolve, LOOK));
    const answer = await fetch(`${api}/${number}`);
    if (!answer.ok) break;
    const [letter] = (await answer.json()).letters;
    if (letter.state === "new") return `Failed again: ${letter.reason}`;
  }
  return "";
}

function edited(letter) {
  const area = letter.querySelector("textarea");
  return area && !area.readOnly && area.value !== area.defaultValue ? area : null;
}

async function one(letter, button) {
  const ids = [letter.dataset.number], what = button.dataset.do, area = edited(letter);
  if (what === "fix" || (what === "retry" && area)) await post("fix", { ids, data: JSON.parse(area.value) });
  if (what === "original") await post("fix", { ids, original: true });
  if (what === "fix" || what === "original") return fill(letter.closest(".cause"));
  const found = await post(what, { ids });
  const reasons = Object.keys(found.skipped);
  if (reasons.length) throw new Error(reasons.join("; "));
  letter.classList.add("done");
  for (const other of letter.querySelectorAll("button")) other.hidden = true;
  const said = letter.querySelector(".said");
  said.textContent = what === "drop" ? "Dropped." : "In the flow again.";
  const again = what === "retry" ? await outcome(ids[0]) : "";
  if (!again) return;
  letter.classList.remove("done");
  said.textContent = again;
  said.classList.add("fault");
}

function check(area) {
  const letter = area.closest(".letter"), fault = letter.querySelector(".sides .fault"), keep = letter.querySelector("[data-do=fix]");
  let text = "";
  try { JSON.parse(area.value); } catch (error) { text = error.message; }
  fault.textContent = text;
  fault.hidden = !text || !edited(letter);
  if (keep) keep.hidden = !edited(letter);
  const retry = letter.querySelector("[data-do=retry]");
  retry.disabled = Boolean(edited(letter) && text);
  if (keep) keep.disabled = Boolean(text);
  retry.textContent = edited(letter) ? "Retry as edited" : (retry.dataset.text ??= retry.textContent);
}

page.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  event.preventDefault();
  if (button.dataset.do === "drop" && !sure(button)) return;
  const letter = button.closest(".letter"), group = button.closest(".cause");
  button.disabled = true;
  try {
    if (button.matches(".more")) await earlier(button);
    else if (letter) await one(letter, button);
    else await all(group, button);
    if (button.dataset.do) await recount();
  } catch (error) {
    (letter ? letter.querySelector(".said") : group.querySelector("summary .do")).textContent = error.message;
  }
  button.disabled = false;
});
page.addEventListener("input", (event) => event.target.matches("textarea") && check(event.target));
page.addEventListener("toggle", (event) => {
  const group = event.target;
  if (group.matches(".cause") && group.open && !group.querySelector(".letter")) fill(group);
}, true);

let known = Number(page.dataset.new);
const fresh = page.querySelector(".fresh");
connect(`/console/live?flow=${flow}`, {
  message({ flow: line }) {
    const more = line.dead - known;
    fresh.hidden = more <= 0 || page.dataset.state !== "new";
    fresh.querySelector("b").textContent = whole(Math.max(0, more));
  },
  state(state) {
    const link = document.getElementById("link");
    link.dataset.link = state;
    link.querySelector("span").textContent = state === "live" ? "live" : "reconnecting";
  },
  refused: () => (location.href = "/console/login?next=" + encodeURIComponent(location.pathname)),
});
