// node `ws`: ws_peer.js server PORT
//            ws_peer.js client URL PLAN...
// What a plan means is said in plan.py.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");

const MESSAGES = 3;

function close(socket, path) {
  const [, code, reason] = path.split("/").filter(Boolean);
  if (code === "none") socket.close();
  else socket.close(Number(code), "r".repeat(Number(reason)));
}

function serve(port) {
  const server = new WebSocketServer({ host: "127.0.0.1", port });
  server.on("connection", (socket, request) => {
    socket.on("message", (message) => {
      if (request.url.startsWith("/server/")) close(socket, request.url);
      else socket.send(message.toString());
    });
  });
  server.on("listening", () => console.log("ready"));
}

function run(url, plan) {
  const socket = new WebSocket(`${url}/${plan}`);
  let echoes = 0;
  socket.on("open", () => {
    for (let number = 0; number < MESSAGES; number++) socket.send(`message ${number}`);
  });
  socket.on("message", () => {
    echoes += 1;
    if (echoes === MESSAGES && plan.startsWith("client/")) close(socket, plan);
  });
  socket.on("error", (error) => {
    console.error(plan, error);
    process.exitCode = 1;
  });
}

const [role, place, ...plans] = process.argv.slice(2);
if (role === "server") {
  serve(Number(place));
} else {
  process.stdin.once("data", () => {
    process.stdin.destroy();
    for (const plan of plans) run(place, plan);
  });
  console.log("ready");
}
