// The daemon itself: whether it sees everything, and what it could not see.

import { count, el, plural, show, whole } from "./dom.js";

const WORDS = {
  closewatch_events_lost_total: "events lost between kernel and daemon",
  closewatch_sockets_lost_total: "WebSockets not followed",
  closewatch_streams_lost_total: "directions given up",
  closewatch_heads_unparsed_total: "heads not read whole",
  closewatch_servers_folded_total: "ended connections folded into other",
  closewatch_connections_swept_total: "connections that ended unseen",
  closewatch_searches_failed_total: "searches for connections refused",
  closewatch_tls_sessions_total: "TLS sessions not followed",
  closewatch_tls_files_unsupported_total: "files whose TLS is not followed",
  closewatch_records_lost_total: "records lost",
  closewatch_log_lines_lost_total: "lines of the log lost",
};

/** Shows /api/v1/health. */
export function showHealth(place, note, health) {
  show(note, health.version, () => `version ${health.version}`);
  const attached = health.probes.filter((probe) => probe.attached).length;
  const lost = health.unseen.filter((counter) => counter.count > 0);
  const facts = [
    ["Running for", whole(health.uptime_seconds)],
    ["Probes", `${attached} of ${health.probes.length} attached`, attached < health.probes.length],
    ["Live connections", count(health.connections)],
    ["Servers", `${count(health.servers.known)} of at most ${count(health.servers.max)}`, health.servers.known >= health.servers.max],
    [
      "Records",
      health.records === null
        ? "none are written"
        : `${count(health.records.written)} written, ${count(health.records.lost)} lost`,
      (health.records?.lost ?? 0) > 0,
    ],
  ];
  show(place, [facts, lost], () => [
    el(
      "dl",
      { class: "facts across" },
      facts.map(([name, value, bad]) =>
        el("div", {}, el("dt", {}, name), el("dd", { class: bad ? "bad" : null }, value)),
      ),
    ),
    lost.length === 0
      ? el("p", { class: "complete" }, "Nothing was lost: every event, head, stream and record since it began.")
      : el(
          "div",
          {},
          el("p", {}, `${plural(lost.length, "counter")} of what could not be seen ${lost.length === 1 ? "is" : "are"} above 0:`),
          el("ul", { class: "losses" }, lost.map(loss)),
        ),
  ]);
}

function loss({ metric, labels, count: many }) {
  const why = Object.values(labels).join(", ").replaceAll("_", " ");
  return el(
    "li",
    {},
    el("strong", {}, count(many)),
    ` ${WORDS[metric] ?? metric}${why ? ` (${why})` : ""} `,
    el("code", {}, metric),
  );
}
