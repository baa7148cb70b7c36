// The table of servers: one row each, with details behind a button.

import { distribution, histogram, holders, hour, line } from "./charts.js";
import { age, count, duration, el, moment, percent, show } from "./dom.js";
import { connectionsTable } from "./hanging.js";

// Larger comes first when a column is chosen, text the other way round.
const COLUMNS = [
  { name: "Server", label: "server", value: (server) => server.server, text: true },
  { name: "Slow", label: "slow", value: null },
  { name: "Hanging now", label: "hanging", value: (server) => oldest(server) },
  { name: "Close to FIN", label: "close-to-fin", value: (server) => server.window?.longest_seconds ?? -1 },
  { name: "Slow closes, last hour", label: "last-hour", value: (server) => shareOf(server) },
  { name: "TIME_WAIT held by", label: "time-wait", value: (server) => server.time_wait.entered.client },
];

const ROLES = { server: "on this host", client: "called from here" };

const rows = new Map();
let order = { column: COLUMNS[1], reversed: false };
let latest = null;
let body = null;

function oldest(server) {
  return server.awaiting_fin_oldest_seconds ?? server.half_closed_oldest_seconds ?? -1;
}

function shareOf(server) {
  const { ended, slow } = hour(server.last_hour);
  return ended ? slow / ended : -1;
}

/** Rows whose details are open: what is asked for them besides. */
export function opened() {
  return [...rows.values()].filter((row) => row.open).map((row) => row.server);
}

/** Shows an answer of the API; `details` has the hanging connections of opened rows by key. */
export function showServers(place, answer, details, answered, whenOpened) {
  latest = { place, answer, details, answered, whenOpened };
  if (answer.servers.length === 0) {
    body = null;
    rows.clear();
    show(place, "empty", empty);
    return;
  }
  show(place, "table", table);
  const sorted = inOrder(answer.servers);
  const keys = new Set(sorted.map(key));
  for (const [known, row] of rows) {
    if (keys.has(known)) continue;
    row.main.remove();
    row.detail.remove();
    rows.delete(known);
  }
  const focused = document.activeElement;
  let next = body.firstChild;
  for (const server of sorted) {
    const row = rows.get(key(server)) ?? add(server);
    update(row, server);
    for (const element of [row.main, row.detail]) {
      if (element === next) next = next.nextSibling;
      else body.insertBefore(element, next);
    }
  }
  // What is moved loses the focus.
  if (focused !== document.activeElement && body.contains(focused)) focused.focus();
}

function empty() {
  return el(
    "div",
    { class: "empty" },
    el("p", {}, "No WebSocket has been seen yet."),
    el(
      "p",
      { class: "quiet" },
      "A server appears here with the first connection that opens while this daemon runs: over plain " +
        "TCP (ws://), in any network namespace of this host, as client or as server.",
    ),
  );
}

export function key(server) {
  return `${server.role} ${server.server}`;
}

function inOrder(servers) {
  const { column, reversed } = order;
  // The API's order is the worst first.
  if (column.value === null) return reversed ? servers.toReversed() : servers;
  const sign = (column.text ? 1 : -1) * (reversed ? -1 : 1);
  const compare = (a, b) => (column.text ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return servers.toSorted((a, b) => sign * compare(column.value(a), column.value(b)));
}

function table() {
  body = el("tbody", { role: "rowgroup" });
  rows.clear();
  const headers = COLUMNS.map((column) => {
    const button = el("button", { type: "button" }, column.name);
    const header = el("th", { scope: "col", role: "columnheader", class: column.label }, button);
    column.header = header;
    button.addEventListener("click", () => {
      order = { column, reversed: order.column === column && !order.reversed };
      markOrder();
      redraw();
    });
    return header;
  });
  markOrder();
  return el(
    "table",
    { class: "servers", role: "table", "aria-labelledby": "servers-heading" },
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, headers)),
    body,
  );
}

function markOrder() {
  for (const column of COLUMNS) {
    const chosen = column === order.column;
    const up = Boolean(column.text) !== order.reversed;
    if (chosen) column.header.setAttribute("aria-sort", up ? "ascending" : "descending");
    else column.header.removeAttribute("aria-sort");
  }
}

function redraw() {
  const { place, answer, details, answered, whenOpened } = latest;
  showServers(place, answer, details, answered, whenOpened);
}

function add(server) {
  const id = `details-${rows.size}-${server.role}-${server.server.replace(/[^\w]/g, "-")}`;
  const toggle = el("button", {
    type: "button",
    class: "toggle",
    "aria-expanded": "false",
    "aria-controls": id,
    "aria-label": `Details of ${server.server}, ${ROLES[server.role]}`,
  });
  const cell = (label, name) => el("td", { role: "cell", class: label, "data-label": name });
  const cells = COLUMNS.slice(1).map((column) => cell(column.label, column.name));
  const about = el("div", { class: "about" });
  const row = {
    open: false,
    server,
    about,
    cells,
    main: el(
      "tr",
      { role: "row" },
      el("th", { scope: "row", role: "rowheader", class: "server" }, el("div", {}, toggle, about)),
      cells,
    ),
    detail: el("tr", { role: "row", class: "detail", id, hidden: "" }, el("td", { role: "cell", colspan: COLUMNS.length })),
  };
  toggle.addEventListener("click", () => {
    row.open = !row.open;
    row.detail.hidden = !row.open;
    toggle.setAttribute("aria-expanded", String(row.open));
    redraw();
    if (row.open) latest.whenOpened();
  });
  rows.set(key(server), row);
  return row;
}

function update(row, server) {
  const { answer, details, answered } = latest;
  const { edges_seconds: edges, slow_after_seconds: slowAfter } = answer;
  row.server = server;
  row.main.classList.toggle("is-slow", server.slow);
  show(row.about, [server.server, server.role, server.hosts, server.software], () => about(server));
  const [slow, hanging, closeToFin, lastHour, timeWait] = row.cells;
  show(slow, [server.slow, server.slow_since], () => slowness(server, answered, answer.time));
  show(hanging, [server.live, server.awaiting_fin_oldest_seconds, server.half_closed_oldest_seconds], () =>
    hangs(server, answered, slowAfter),
  );
  show(closeToFin, [server.close_to_fin, server.window], () => [
    histogram(server, edges, slowAfter),
    longest(server),
  ]);
  show(lastHour, server.last_hour, () => [line(server.last_hour), share(server)]);
  show(timeWait, server.time_wait, () => [holders(server.time_wait.entered), held(server)]);
  if (!row.open) return;
  const own = details.get(key(server));
  show(row.detail.firstChild, [server, own ?? null], () => detail(server, own, answered, answer));
}

function about(server) {
  const [host] = server.hosts;
  const names = [host && host !== server.server ? host : null, server.software].filter(Boolean);
  return [
    el("span", { class: "address" }, server.server === "other" ? "other servers" : server.server),
    el("span", { class: "quiet" }, [ROLES[server.role], ...names].join(" · ")),
  ];
}

function slowness(server, answered, time) {
  if (!server.slow) return el("span", { class: "quiet" }, server.ended > 0 || server.live.open > 0 ? "no" : "–");
  const since = (Date.parse(time) - Date.parse(server.slow_since)) / 1000;
  return [
    el("strong", { class: "slow-word" }, "slow"),
    el("span", { class: "quiet" }, "for ", age(Math.max(0, since), answered)),
  ];
}

function hangs(server, answered, slowAfter) {
  const lines = [];
  const say = (many, oldest, words) => {
    if (!many) return;
    const hanging = oldest !== null && oldest >= slowAfter;
    lines.push(
      el(
        "span",
        { class: hanging ? "hangs" : "quiet" },
        `${count(many)} ${words}`,
        hanging ? ", " : null,
        hanging ? age(oldest, answered) : null,
      ),
    );
  };
  // How long is told with the connections: the API does not say it of the server.
  say(server.live.awaiting_close_frame, null, "await Close");
  say(server.live.awaiting_fin, server.awaiting_fin_oldest_seconds, "await FIN");
  say(server.live.half_closed, server.half_closed_oldest_seconds, "half closed");
  if (lines.length === 0) lines.push(el("span", { class: "quiet" }, "none"));
  lines.push(el("span", { class: "quiet" }, `${count(server.live.open)} open`));
  return lines;
}

function longest({ window }) {
  if (!window || window.ended === 0) return el("span", { class: "quiet" }, "none in 5 min");
  const { p50_seconds: p50, p99_seconds: p99, longest_seconds: longest } = window;
  if (p50 !== null && p99 !== null) {
    return el("span", { class: "quiet" }, `p50 ${duration(p50)} · p99 ${duration(p99)}`);
  }
  const words = longest === null ? "none slow in 5 min" : `longest slow ${duration(longest)}`;
  return el("span", { class: "quiet" }, words);
}

function share(server) {
  const { ended, slow } = hour(server.last_hour);
  const words = ended ? `${percent(slow / ended)} · ${count(slow)} of ${count(ended)}` : "nothing ended";
  return el("span", { class: "quiet" }, words);
}

function held({ time_wait: { entered, current } }) {
  const words = [`client ${count(entered.client + entered.both)}`, `server ${count(entered.server + entered.both)}`];
  if (current !== null) words.push(`${count(current)} now`);
  return el("span", { class: "quiet" }, words.join(" · "));
}

function detail(server, own, answered, { edges_seconds: edges, slow_after_seconds: slowAfter }) {
  const facts = [
    ["Slow since", server.slow_since ? moment(server.slow_since) : null],
    ["Ended", count(server.ended)],
    ["Slow closes", count(server.slow_closes)],
    ["Open", count(server.live.open)],
    ["Await a Close frame", count(server.live.awaiting_close_frame)],
    ["Software", server.software],
    ["Hosts", server.hosts.length ? server.hosts.join(", ") + (server.hosts_more ? " and others" : "") : null],
  ].filter(([, value]) => value !== null);
  const outcomes = Object.entries(server.outcomes).filter(([, many]) => many > 0);
  return el(
    "div",
    { class: "panels" },
    el(
      "section",
      {},
      el("h3", {}, "How long closing takes"),
      distribution(server, edges, slowAfter),
      el(
        "p",
        { class: "quiet" },
        `Slow from ${duration(slowAfter)} on. Where the client closed, it is the client's patience: ` +
          "the server would have taken longer.",
      ),
    ),
    el(
      "section",
      {},
      el("h3", {}, "How connections ended"),
      outcomes.length
        ? el("dl", { class: "facts" }, outcomes.map(([name, many]) => fact(name, count(many))))
        : el("p", { class: "quiet" }, "None has ended yet."),
      el("h3", {}, "Known of it"),
      el("dl", { class: "facts" }, facts.map(([name, value]) => fact(name, value))),
    ),
    el(
      "section",
      { class: "wide" },
      el("h3", {}, "What hangs here"),
      own
        ? connectionsTable(own, answered, "Nothing hangs.")
        : el("p", { class: "quiet" }, server.server === "other" ? "Not told of these servers." : "Asking …"),
    ),
  );
}

function fact(name, value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}
