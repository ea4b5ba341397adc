// The page of alerts: asks for the list again and again, and calls the flow's API to acknowledge, clear and mute.
const page = document.getElementById("alerts"), list = document.getElementById("list");
const EVERY = 1000, SURE = 4000, SOON = 150;
const AGE = /<span class="for">[^<]*<\/span>/g;
let shown = "", timer;

function link(state) {
  const place = document.getElementById("link");
  place.dataset.link = state;
  place.querySelector("span").textContent = state === "live" ? "live" : "reconnecting";
}

// Where only times have gone on, the rest stays as it is, so that a button does not vanish under a finger.
function show(text) {
  const same = text.replace(AGE, "") === shown, fresh = document.createElement("template");
  if (!same && list.querySelector("[data-sure]")) return;
  fresh.innerHTML = text;
  const ages = [...fresh.content.querySelectorAll(".for")];
  if (same) list.querySelectorAll(".for").forEach((place, at) => { place.textContent = ages[at].textContent; });
  else list.replaceChildren(fresh.content);
  shown = text.replace(AGE, "");
}

// A part of a page from our own template, everything in it escaped.
async function look() {
  clearTimeout(timer);
  try {
    const answer = await fetch(`/console/alerts/list?show=${page.dataset.shown}`);
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.text());
    link("live");
  } catch {
    link("waiting");
  }
  timer = setTimeout(look, EVERY);
}

function sure(button) {
  if (button.dataset.sure) return true;
  button.dataset.sure = "asked";
  button.textContent = "Really clear?";
  setTimeout(() => { delete button.dataset.sure; button.textContent = "Clear"; }, SURE);
  return false;
}

async function act(card, button) {
  const body = { alert: card.dataset.alert };
  if (button.dataset.for) body.for = button.dataset.for;
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${card.dataset.path}/${button.dataset.do}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
}

list.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button || (button.dataset.do === "clear" && !sure(button))) return;
  const card = button.closest(".alert");
  delete button.dataset.sure;
  button.disabled = true;
  try {
    await act(card, button);
    setTimeout(look, SOON);
  } catch (error) {
    card.querySelector(".said").textContent = error.message;
    button.disabled = false;
  }
});

look();
