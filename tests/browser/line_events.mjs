// An unmodified socket.io-client that listens until its standard input ends.
// Prints a JSON line for each thing that happens: ["event", name, data, milliseconds], ["connect"], ["disconnect", why] …
//   usage: node line_events.mjs URL '{…options of io()}'
import { io } from "socket.io-client";

const socket = io(process.argv[2], { reconnection: false, ...JSON.parse(process.argv[3]) });
const tell = (...what) => console.log(JSON.stringify(what));

socket.on("connect", () => tell("connect", socket.id));
socket.on("connect_error", (error) => tell("connect_error", error.message, error.data ?? null));
socket.on("disconnect", (reason) => tell("disconnect", reason));
socket.onAny((event, data, ...more) => tell("event", event, data, Date.now(), ...more));
process.stdin.on("end", () => {
  tell("transport", socket.io.engine?.transport.name ?? null);
  socket.close();
});
process.stdin.resume();
