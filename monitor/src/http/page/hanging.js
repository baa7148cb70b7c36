// Connections that should be closed by now: a Close frame without an answer, both Close frames and no FIN,
// or a FIN and still there.

import { age, count, el, show } from "./dom.js";

// At most so many are shown; they are the oldest.
export const SHOWN = 25;

const PHASES = {
  open: "open",
  awaiting_close_frame: "awaits a Close frame",
  awaiting_fin: "awaits FIN",
  half_closed: "half closed",
};

/** Those of all answers that hang for longer than slow-after, the oldest first. */
export function hangingOf(answers, slowAfter) {
  const all = answers.flatMap((answer) => answer.connections);
  const hanging = all.filter((connection) => connection.age_seconds >= slowAfter);
  hanging.sort((a, b) => b.age_seconds - a.age_seconds);
  const merged = bothEnds(hanging);
  const more = answers.some((answer) => answer.next !== null && answer.connections.at(-1)?.age_seconds >= slowAfter);
  return { hanging: merged, more };
}

/** A connection whose two ends are on this host is told by both, and is one. */
function bothEnds(connections) {
  const known = new Map();
  for (const connection of connections) {
    const client = connection.role === "server" ? connection.remote : connection.local;
    const name = `${connection.server} ${client} ${connection.phase}`;
    const other = known.get(name);
    if (other) other.seenBy = "both ends";
    else known.set(name, { ...connection, client, seenBy: `the ${connection.role}'s end` });
  }
  return [...known.values()];
}

/** Shows what hangs on this host. */
export function showHanging(place, note, { hanging, more }, answered) {
  show(note, [hanging.length, more], () => {
    if (hanging.length === 0) return "";
    const all = `${more ? "more than " : ""}${count(hanging.length)}`;
    return hanging.length > SHOWN ? `the oldest ${SHOWN} of ${all}` : all;
  });
  const what = hanging.map(({ server, client, phase, since, seenBy }) => [server, client, phase, since, seenBy]);
  show(place, what, () =>
    connectionsTable(hanging, answered, "Nothing: every Close frame was answered, and followed by FIN."),
  );
}

export function connectionsTable(connections, answered, nothing) {
  if (connections.length === 0) return el("p", { class: "quiet" }, nothing);
  const cell = (name, ...children) => el("td", { role: "cell", "data-label": name }, ...children);
  const header = (name) => el("th", { scope: "col", role: "columnheader" }, name);
  const line = (connection) =>
    el(
      "tr",
      { role: "row" },
      el("td", { role: "cell", class: "how-long", "data-label": "For" }, age(connection.age_seconds, answered)),
      cell("Phase", PHASES[connection.phase] ?? connection.phase),
      cell("Server", el("span", { class: "address" }, connection.server)),
      cell("Client", el("span", { class: "address" }, connection.client)),
      cell("Host and path", el("span", { class: "foreign" }, `${connection.host ?? ""}${connection.path ?? ""}` || "not seen")),
      cell("Seen by", connection.seenBy),
      cell("Cgroup", el("span", { class: "foreign" }, connection.cgroup ?? "not known")),
    );
  return el(
    "table",
    { class: "connections", role: "table" },
    el(
      "thead",
      { role: "rowgroup" },
      el("tr", { role: "row" }, ["For", "Phase", "Server", "Client", "Host and path", "Seen by", "Cgroup"].map(header)),
    ),
    el("tbody", { role: "rowgroup" }, connections.slice(0, SHOWN).map(line)),
  );
}
