// Pictures: drawn from numbers, each with its text alternative. Colours are the style sheet's.

import { count, duration, el, percent, plural, svg } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 32;

/** How many closes took how long: one bar a bucket, those that are slow marked. */
export function histogram(server, edges, slowAfter) {
  const buckets = bucketsOf(server, edges);
  const largest = Math.max(...buckets.map((bucket) => bucket.all), 1);
  const step = WIDTH / buckets.length;
  const bars = buckets.flatMap((bucket, index) => {
    const part = (many) => (many ? Math.max(2, (many / largest) * (HEIGHT - 4)) : 0);
    const late = bucket.from >= slowAfter ? " late" : "";
    const [byServer, byClient] = [part(bucket.server), part(bucket.client)];
    const bar = (height, above, who) =>
      height &&
      svg("rect", {
        class: `${who}${late}`,
        x: index * step + 0.5,
        y: HEIGHT - above - height,
        width: step - 1,
        height,
      });
    return [bar(byServer, 0, "by-server"), bar(byClient, byServer, "by-client")].filter(Boolean);
  });
  const threshold = (edges.indexOf(slowAfter) + 1) * step;
  return picture(
    "histogram",
    describe(buckets, slowAfter),
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    bars,
    svg("line", { class: "threshold", x1: threshold, x2: threshold, y1: 0, y2: HEIGHT }),
  );
}

function describe(buckets, slowAfter) {
  const sum = (of) => of.reduce((all, bucket) => all + bucket.all, 0);
  const all = sum(buckets);
  if (all === 0) return "No close has been measured yet.";
  const late = sum(buckets.filter((bucket) => bucket.from >= slowAfter));
  const most = buckets.reduce((most, bucket) => (bucket.all > most.all ? bucket : most));
  return `${plural(all, "close")}, ${count(late)} after ${duration(slowAfter)}; most took ${range(most)}.`;
}

function bucketsOf(server, edges) {
  const { client, server: own } = server.close_to_fin;
  return client.counts.map((byClient, index) => ({
    from: index === 0 ? 0 : edges[index - 1],
    to: index < edges.length ? edges[index] : null,
    client: byClient,
    server: own.counts[index],
    all: byClient + own.counts[index],
  }));
}

function range({ from, to }) {
  if (from === 0) return `up to ${duration(to)}`;
  return to === null ? `over ${duration(from)}` : `${duration(from)} to ${duration(to)}`;
}

/** The same in words and long bars, from the first bucket that holds something to the last. */
export function distribution(server, edges, slowAfter) {
  const buckets = bucketsOf(server, edges);
  const first = buckets.findIndex((bucket) => bucket.all > 0);
  if (first < 0) return el("p", { class: "quiet" }, "No close has been measured yet.");
  const last = buckets.findLastIndex((bucket) => bucket.all > 0);
  const shown = buckets.slice(first, last + 1);
  const largest = Math.max(...shown.map((bucket) => bucket.all));
  const line = (bucket) => {
    const late = bucket.from >= slowAfter ? " late" : "";
    const width = (many) => (many / largest) * 100;
    return el(
      "tr",
      { class: bucket.from === slowAfter ? "first-late" : null },
      el("th", { scope: "row" }, range(bucket)),
      el(
        "td",
        { class: "bar" },
        svg(
          "svg",
          { "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 100 10" },
          bucket.server > 0 && rectangle(`by-server${late}`, 0, width(bucket.server)),
          bucket.client > 0 && rectangle(`by-client${late}`, width(bucket.server), width(bucket.client)),
        ),
      ),
      el("td", { class: "number" }, count(bucket.server)),
      el("td", { class: "number" }, count(bucket.client)),
    );
  };
  return el(
    "table",
    { class: "distribution" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "Close to FIN"),
        el("td", {}),
        el("th", { scope: "col", class: "number key-server" }, "server closed"),
        el("th", { scope: "col", class: "number key-client" }, "client closed"),
      ),
    ),
    el("tbody", {}, shown.map(line)),
  );
}

function rectangle(name, x, width) {
  return svg("rect", { class: name, x, width, height: 10 });
}

/** The share of slow closes in each minute of the last hour, 0 to 100 %. */
export function line(lastHour) {
  const points = lastHour.ended.map((ended, minute) => {
    const x = (minute / (lastHour.ended.length - 1)) * (WIDTH - 4) + 2;
    const share = ended ? lastHour.slow[minute] / ended : null;
    return { x, y: share === null ? null : HEIGHT - 2 - share * (HEIGHT - 4) };
  });
  const runs = [];
  for (const [index, point] of points.entries()) {
    if (point.y === null) continue;
    if (index === 0 || points[index - 1].y === null) runs.push([]);
    runs.at(-1).push(`${round(point.x)},${round(point.y)}`);
  }
  const drawn = runs.map((run) =>
    run.length > 1
      ? svg("polyline", { class: "share", points: run.join(" ") })
      : svg("circle", { class: "share-point", cx: run[0].split(",")[0], cy: run[0].split(",")[1], r: 2.5 }),
  );
  const { ended, slow } = hour(lastHour);
  const text = ended
    ? `Last hour: ${count(slow)} of ${plural(ended, "close")} slow, ${percent(slow / ended)}.`
    : "Nothing ended in the last hour.";
  return picture(
    slow > 0 ? "line" : "line never",
    text,
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    drawn,
  );
}

/** What ended in the last hour, and the slow closes among it. */
export function hour(lastHour) {
  const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);
  return { ended: sum(lastHour.ended), slow: sum(lastHour.slow) };
}

/** Who took TIME_WAIT, as parts of one bar. */
export function holders({ client, server, both }) {
  const all = client + server + both;
  const parts = [
    ["held-by-client", client],
    ["held-by-both", both],
    ["held-by-server", server],
  ];
  let x = 0;
  const drawn = parts.filter(([, many]) => many > 0).map(([name, many]) => {
    const width = (many / all) * WIDTH;
    x += width;
    return svg("rect", { class: name, x: x - width, width, y: 0, height: 6 });
  });
  const bar = picture("holders", `TIME_WAIT: ${count(client)} client, ${count(server)} server, ${count(both)} both.`, drawn);
  bar.setAttribute("viewBox", `0 0 ${WIDTH} 6`);
  return bar;
}

function picture(kind, text, ...children) {
  return svg(
    "svg",
    { class: `picture ${kind}`, role: "img", "aria-label": text, viewBox: `0 0 ${WIDTH} ${HEIGHT}` },
    svg("title", {}, text),
    children,
  );
}

function round(number) {
  return Number(number.toFixed(1));
}
