// Node `ws`: echo.js PORT CERTIFICATE KEY
"use strict";

const { readFileSync } = require("fs");
const { createServer } = require("https");
const { WebSocketServer } = require("ws");

const [port, cert, key] = process.argv.slice(2);
const https = createServer({ cert: readFileSync(cert), key: readFileSync(key) });
new WebSocketServer({ server: https }).on("connection", (socket) => {
  socket.on("message", (message, binary) => socket.send(message, { binary }));
});
https.listen({ host: "127.0.0.1", port: Number(port) });
