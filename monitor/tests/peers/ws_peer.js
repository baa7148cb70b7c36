// node `ws`: ws_peer.js server PORT
//            ws_peer.js client URL PLAN...
// What a plan means is said in plan.py, and what CLOSEWATCH_TEST_TLS is in secure.py.
"use strict";

const { existsSync, readFileSync } = require("fs");
const { createServer: createPlain } = require("http");
const { createServer: createSecure } = require("https");
const { WebSocket, WebSocketServer } = require("ws");

const MESSAGES = 3;
const ECHO = "echo ";

function close(socket, path) {
  const [, code, reason] = path.split("/").filter(Boolean);
  if (code === "none") socket.close();
  else socket.close(Number(code), "r".repeat(Number(reason)));
}

function listener() {
  const folder = process.env.CLOSEWATCH_TEST_TLS;
  if (!folder) return createPlain();
  const [cert, key] = ["crt", "key"].map((kind) => readFileSync(`${folder}/server.${kind}`));
  return createSecure({ cert, key });
}

function serve(port) {
  const http = listener();
  const server = new WebSocketServer({ server: http });
  server.on("connection", (socket, request) => {
    socket.on("message", (message) => {
      const text = message.toString();
      if (request.url.startsWith("/server/") && !text.startsWith(ECHO)) close(socket, request.url);
      else socket.send(text);
    });
  });
  const host = process.env.CLOSEWATCH_TEST_ADDRESS || "127.0.0.1";
  http.listen({ host, port, backlog: 1024 }, () => console.log("ready"));
}

function connect(url, plan) {
  const socket = new WebSocket(`${url}/${plan}`);
  socket.on("error", (error) => {
    console.error(plan, error);
    process.exitCode = 1;
  });
  return socket;
}

function run(url, plan) {
  const socket = connect(url, plan);
  let echoes = 0;
  socket.on("open", () => {
    for (let number = 0; number < MESSAGES; number++) socket.send(`message ${number}`);
  });
  socket.on("message", () => {
    echoes += 1;
    if (echoes === MESSAGES && plan.startsWith("client/")) close(socket, plan);
  });
}

function runWithPause(url, plan) {
  const [before, after, size] = plan.split("/").slice(3).map(Number);
  const socket = connect(url, plan);
  let sent = 0;
  const next = () => {
    if (sent === before + after) {
      if (plan.startsWith("client/")) close(socket, plan);
      else socket.send("close, please");
      return;
    }
    socket.send(`${ECHO}message ${sent} `.padEnd(size, "m"));
    sent += 1;
  };
  const pause = () => {
    console.log("open");
    const timer = setInterval(() => {
      if (!existsSync(process.env.CLOSEWATCH_TEST_GO_ON)) return;
      clearInterval(timer);
      next();
    }, 10);
  };
  socket.on("open", () => (before ? next() : pause()));
  socket.on("message", () => (sent === before ? pause() : next()));
}

const [role, place, ...plans] = process.argv.slice(2);
if (role === "server") {
  serve(Number(place));
} else {
  process.stdin.once("data", () => {
    process.stdin.destroy();
    for (const plan of plans) {
      if (plan.split("/").length > 3) runWithPause(place, plan);
      else run(place, plan);
    }
  });
  console.log("ready");
}
