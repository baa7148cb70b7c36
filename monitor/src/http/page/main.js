// Asks the API every few seconds and shows what it says, with its age when it stops answering.

import { count, el, percent, plural, show, tick, whole } from "./dom.js";
import { hangingOf, showHanging } from "./hanging.js";
import { showHealth } from "./health.js";
import { hour } from "./charts.js";
import { key, opened, showServers } from "./servers.js";

const EVERY = 3000;
const PATIENCE = 8000;
/** Servers on the page, the worst; and hanging connections that are asked for, the oldest of each kind. */
const SERVERS = 100;
const HANGING = 50;
const OF_ONE = 25;

const at = (id) => document.getElementById(id);
const state = { answered: null, failed: null, paused: false, asking: false, timer: null };

async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const response = await fetch(`api/v1/${path}${query ? `?${query}` : ""}`, {
    signal: AbortSignal.timeout(PATIENCE),
  });
  const body = await response.json();
  if (!response.ok) throw new Error(body?.error?.message ?? `status ${response.status}`);
  return body;
}

function hanging(limit, of = {}) {
  const phases = ["awaiting_close_frame", "awaiting_fin", "half_closed"];
  return Promise.all(phases.map((phase) => ask("connections", { phase, limit, ...of })));
}

async function detailsOfOpened(slowAfter) {
  const servers = opened().filter((server) => server.server !== "other");
  const found = servers.map(async (server) => {
    const answers = await hanging(OF_ONE, { server: server.server, role: server.role });
    return [key(server), hangingOf(answers, slowAfter).hanging];
  });
  return new Map(await Promise.all(found));
}

async function refresh() {
  clearTimeout(state.timer);
  if (state.asking) return;
  state.asking = true;
  const began = Date.now();
  try {
    const [servers, health, connections] = await Promise.all([
      ask("servers", { limit: SERVERS }),
      ask("health"),
      hanging(HANGING),
    ]);
    const details = await detailsOfOpened(servers.slow_after_seconds);
    state.answered = Date.now();
    state.failed = null;
    showAll(servers, health, hangingOf(connections, servers.slow_after_seconds), details);
  } catch (error) {
    state.failed = error;
  }
  state.asking = false;
  showFreshness();
  // A daemon or a line that is slow is not asked more often than it can bear.
  const took = Date.now() - began;
  if (!state.paused) state.timer = setTimeout(refresh, Math.max(EVERY, took * 10 * !state.failed));
}

function showAll(servers, health, connections, details) {
  showAnswer(servers, health, connections);
  const hidden = servers.total - servers.servers.length;
  show(at("servers-note"), hidden, () => (hidden > 0 ? `the worst ${count(servers.servers.length)} of ${count(servers.total)}` : ""));
  showServers(at("servers-table"), servers, details, state.answered, refresh);
  showHanging(at("hanging"), at("hanging-note"), connections, state.answered);
  showHealth(at("health"), at("health-note"), health);
}

function showAnswer({ servers, total }, health, { hanging, more }) {
  const allShown = total === servers.length;
  // On loopback a server is seen from both ends, and is one all the same; its own end sees the most.
  const addresses = (of) => new Set(of.map((server) => server.server)).size;
  const slow = addresses(servers.filter((server) => server.slow));
  const own = new Set(servers.filter((server) => server.role === "server").map((server) => server.server));
  const once = servers.filter((server) => server.role === "server" || !own.has(server.server));
  const sums = once.map((server) => hour(server.last_hour));
  const ended = sums.reduce((all, one) => all + one.ended, 0);
  const late = sums.reduce((all, one) => all + one.slow, 0);
  const all = total === 0 ? 0 : allShown ? addresses(servers) : health.servers.known;
  const atLeast = !allShown && servers.every((server) => server.slow);
  show(at("headline"), [slow, all, atLeast], () => {
    if (all === 0) return "Waiting for the first WebSocket";
    if (slow === 0) return "No server delays closing";
    const which = el("span", { class: "slow-word" }, `${atLeast ? "At least " : ""}${count(slow)} of ${plural(all, "server")}`);
    return [which, slow === 1 ? " delays closing" : " delay closing"];
  });
  const sentences = [];
  if (hanging.length > 0) {
    const hang = hanging.length === 1 && !more ? "hangs" : "hang";
    const many = `${more ? "More than " : ""}${plural(hanging.length, "connection")}`;
    sentences.push(`${many} ${hang} now, the longest for ${whole(hanging[0].age_seconds)}.`);
  } else if (total > 0) {
    sentences.push("Nothing hangs now.");
  }
  // Of the servers that are not shown it is not known.
  if (ended > 0 && allShown) {
    const were = late === 1 ? "was" : "were";
    const closes = plural(ended, "close");
    sentences.push(`${count(late)} of ${closes} in the last hour ${were} slow (${percent(late / ended)}).`);
  }
  show(at("summary"), sentences, () => sentences.join(" "));
  document.title = slow > 0 ? `${slow} slow · closewatch` : "closewatch";
}

function showFreshness() {
  const { answered, failed, paused } = state;
  const old = answered === null ? null : (Date.now() - answered) / 1000;
  const root = document.documentElement.classList;
  root.toggle("stale", failed !== null);
  root.toggle("paused", paused);
  let freshness = "Live";
  if (failed) freshness = "Not answering";
  else if (paused) freshness = old === null ? "Paused" : `Paused, ${whole(old)} old`;
  else if (old === null) freshness = "Asking the daemon …";
  else if (old > (2 * EVERY) / 1000) freshness = `Last answer ${whole(old)} ago`;
  say("freshness", freshness);
  // The first is read out, once; the second counts up.
  say("trouble-words", failed ? "The daemon does not answer." : "");
  const known =
    old === null
      ? "It has not answered since this page was opened."
      : `What is shown is ${whole(old)} old, and may have changed.`;
  say("trouble-age", `${known} The daemon is asked again every few seconds.`);
  at("trouble").hidden = failed === null;
  if (failed && !document.title.startsWith("(")) document.title = `(no answer) ${document.title}`;
}

function say(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

setInterval(() => {
  // What a daemon that does not answer would say now is not known.
  if (!state.failed && !state.paused) tick();
  showFreshness();
}, 500);

at("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  at("pause").textContent = state.paused ? "Resume" : "Pause";
  if (state.paused) clearTimeout(state.timer);
  else refresh();
  showFreshness();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(state.timer);
  else if (!state.paused) refresh();
});

refresh();
