// A click on an edge of a flow's graph shows what passes it, live: the newest events first, until the panel is closed.
const SHOWN = 50;
const page = document.getElementById("live"), detail = document.getElementById("detail");
const flow = page.querySelector("[data-flow]").dataset.flow;
let reading = new AbortController();

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function panel(wire) {
  const header = element("header", "", "operators");
  const close = element("button", "✕", "quiet close");
  close.setAttribute("aria-label", "Close");
  const state = element("p", "", "kind tap-state");
  header.append(element("h2", wire), close, state);
  const list = element("ul", "", "letters tap");
  detail.replaceChildren(header, list);
  detail.hidden = false;
  detail.scrollTop = 0;
  dispatchEvent(new Event("resize"));  // the graph makes room
  return { list, say: (text) => { state.textContent = text; } };
}

function row(event) {
  const item = element("li");
  item.append(element("time", event.time), " ", element("span", event.key ? `key ${event.key}` : "", "muted"));
  item.append(element("pre", JSON.stringify(event.data ?? `${event.bytes} bytes`, null, 1)));
  item.title = event.id;
  return item;
}

async function* lines(answer) {
  const decoder = new TextDecoder();
  let rest = "";
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = parts.pop();
    yield parts.filter(Boolean).map((line) => JSON.parse(line));
  }
}

async function look(wire) {
  reading.abort();
  const mine = reading = new AbortController();
  const { list, say } = panel(wire);
  let seen = 0, left = 0;
  say("wire · waiting for events");
  try {
    const answer = await fetch(`/api/flows/${encodeURIComponent(flow)}/tap?wire=${encodeURIComponent(wire)}`, { signal: mine.signal });
    if (answer.status === 401) return void location.reload();
    if (!answer.ok) return void say((await answer.json()).error.message);
    for await (const some of lines(answer)) {
      const end = some.find((line) => line.end);
      const events = some.filter((line) => line.id);
      left += some.reduce((sum, line) => sum + (line.skipped ?? 0), 0);
      seen += events.length;
      list.prepend(...events.slice(-SHOWN).reverse().map(row));
      while (list.children.length > SHOWN) list.lastChild.remove();
      if (seen || left) say(`wire · ${seen} events seen` + (left ? `, ${left} left out` : ""));
      if (end) return void say(end.end);
    }
    say("the connection has ended");
  } catch (fault) {
    if (fault.name !== "AbortError") say("the connection is lost");
  }
}

// A wire is thin: a wider line that is not seen takes the clicks.
for (const wire of page.querySelectorAll(".wire")) {
  const { source, port } = wire.dataset;
  const name = port ? `${source}.${port}` : source;
  const hit = wire.cloneNode();
  hit.setAttribute("class", "hit");
  hit.append(document.createElementNS("http://www.w3.org/2000/svg", "title"));
  hit.firstChild.textContent = `What passes ${name}`;
  hit.addEventListener("click", () => look(name));
  wire.after(hit);
}

// The panel was closed, or shows a node now.
new MutationObserver(() => {
  if (detail.hidden || !detail.querySelector(".tap")) reading.abort();
}).observe(detail, { childList: true, attributes: true, attributeFilter: ["hidden"] });
