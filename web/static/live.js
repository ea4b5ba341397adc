// A live channel over plain WebSocket, for the pages of a pack. It connects again by itself, and goes on where it was.
//
//   import { channel } from "/static/live.js";
//   const dashboard = channel("/ws/dashboard", { token });
//   dashboard.on("stats", (data) => …).on("sensor_defect", (data) => …);
//   dashboard.onState((state) => …);      // "live", "waiting", "refused"
//   dashboard.send({ text: "hello" });     // where the channel takes what clients send; false: not connected now
//   dashboard.close();

const FIRST_WAIT = 250, LONGEST_WAIT = 10_000;

export function connect(path, { message, state = () => {}, refused = () => {}, query = () => ({}) }) {
  let socket, timer, closed = false, wait = FIRST_WAIT;

  function open() {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    for (const [name, value] of Object.entries(query())) if (value) url.searchParams.set(name, value);
    socket = new WebSocket(url);
    socket.onopen = () => { wait = FIRST_WAIT; state("live"); };
    socket.onmessage = (event) => message(JSON.parse(event.data));
    socket.onclose = ({ code }) => {
      if (closed) return;
      if (code >= 4400 && code < 4500) { closed = true; state("refused"); refused(code); return; }
      state("waiting");
      timer = setTimeout(open, wait * (0.5 + Math.random()));
      wait = Math.min(wait * 2, LONGEST_WAIT);
    };
  }

  open();
  return {
    send(text) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(text);
      return true;
    },
    close() { closed = true; clearTimeout(timer); socket.close(); },
  };
}

export function channel(path, { token = "" } = {}) {
  const listeners = new Map(), watchers = [];
  let last = "", now = "waiting";

  const line = connect(path, {
    query: () => ({ token: typeof token === "function" ? token() : token, after: last }),
    message({ event, data, id }) {
      if (id) last = id;
      for (const call of [...(listeners.get(event) ?? []), ...(listeners.get("*") ?? [])]) call(data, event);
    },
    state(state) { now = state; watchers.forEach((call) => call(state)); },
  });

  const self = {
    on(event, call) { listeners.set(event, [...(listeners.get(event) ?? []), call]); return self; },
    onState(call) { watchers.push(call); call(now); return self; },
    send: (value) => line.send(JSON.stringify(value)),
    close: line.close,
    get last() { return last; },
  };
  return self;
}
