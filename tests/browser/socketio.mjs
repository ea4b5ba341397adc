// An unmodified socket.io-client. Prints one JSON line for each thing that happens, and ends after COUNT events.
//   usage: node socketio.mjs URL '{"count": 3, "emit": ["message", {...}], ...options of io()}'
import { io } from "socket.io-client";

const { count = 1, emit, ...options } = JSON.parse(process.argv[3]);
const socket = io(process.argv[2], { reconnection: false, ...options });
let seen = 0;

const tell = (...what) => console.log(JSON.stringify(what));
const end = () => {
  tell("transport", socket.io.engine?.transport.name ?? null);
  socket.close();
  process.exitCode = 0;
};

socket.on("connect", () => {
  tell("connect");
  if (emit) socket.emit(...emit, (answer) => tell("answer", answer));
});
socket.on("connect_error", (error) => {
  tell("connect_error", error.message, error.data ?? null);
  end();
});
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.onAny((event, ...data) => {
  tell("event", event, ...data);
  seen += 1;
  if (seen === count) setTimeout(end, emit ? 100 : 0);
});
setTimeout(() => process.exit(3), 30_000).unref();
