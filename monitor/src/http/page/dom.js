// Elements and words. Text is only ever inserted as text: what a peer wrote cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; strings become text. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for pictures. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Builds what is in an element anew, but only when what it shows has changed: so that a selection in
 *  it survives, and nothing is drawn for nothing. */
export function show(element, what, build) {
  const shown = JSON.stringify(what);
  if (element.shown === shown) return;
  element.shown = shown;
  element.replaceChildren(...[build()].flat(Infinity).filter((child) => child !== null));
}

export function count(number) {
  return number.toLocaleString("en");
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

export function percent(share) {
  const hundredths = share * 100;
  return `${hundredths > 0 && hundredths < 1 ? "<1" : Math.round(hundredths)} %`;
}

/** A duration as a person says it: 0.4 ms, 12 ms, 1.5 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds < 0.001) return `${round(seconds * 1000, 1)} ms`;
  if (seconds < 1) return `${round(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 10) return `${round(seconds, 1)} s`;
  return whole(seconds);
}

/** A duration that is counted up, in whole seconds. */
export function whole(seconds) {
  const all = Math.floor(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return two(all, 60, "min", 1, "s");
  if (all < 86400) return two(all, 3600, "h", 60, "min");
  return two(all, 86400, "d", 3600, "h");
}

function two(all, large, largeName, small, smallName) {
  const rest = Math.floor((all % large) / small);
  return `${Math.floor(all / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

function round(number, digits) {
  return String(Number(number.toFixed(digits)));
}

/** A moment in the reader's own time zone, with the exact one behind it. */
export function moment(time) {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? date.toLocaleTimeString() : date.toLocaleString();
  return el("time", { datetime: time, title: time }, text);
}

/** The age of something at the moment of the answer; `tick` counts it up. */
export function age(seconds, answered) {
  const element = el("span", { class: "age" });
  element.began = answered - seconds * 1000;
  count_up(element);
  return element;
}

/** Counts every age on the page up. */
export function tick() {
  for (const element of document.querySelectorAll(".age")) count_up(element);
}

function count_up(element) {
  const text = whole(Math.max(0, Date.now() - element.began) / 1000);
  if (element.textContent !== text) element.textContent = text;
}
