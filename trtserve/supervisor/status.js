"use strict";
// Keeps the page up to date: the tables as the server makes them, the timeline from /status.json.
const SPAN = 5000;      // milliseconds that the timeline shows
const LAG = 1300;       // it shows what was so long ago, so that batches are there in time
const EVERY = 1000;
const GUTTER = 64, LANE = 22, GAP = 4, HEAD = 22, AXIS = 20;
const COLOURS = 8;
const SVG = "http://www.w3.org/2000/svg";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const chart = document.getElementById("chart");
const detail = document.getElementById("detail");
const legend = document.getElementById("legend");
const lost = document.getElementById("lost");
const hint = detail.textContent;
let next = 0;            // the number of the last batch that came
let offset = null;       // the server's clock less ours, in milliseconds
let batches = [];
let devices = [];
let names = [];          // models in the order of their colours
let bars = [];           // what is drawn: {rect, lane, list}
let chosen = null;
let paused = false;
let origin = 0;          // the server's time at the left end, as drawn
let moving = [];
let shift = 0;           // how far what is drawn has moved since, in pixels

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}

function colour(model) {
  return "c" + Math.min(names.indexOf(model), COLOURS - 1);
}

function rightEnd() {
  return performance.now() + offset - LAG;
}

// --- the timeline ---------------------------------------------------------------------------

function lanesOf(device) {
  const lanes = Array.from({length: device.lanes}, (_, lane) => lane);
  const beyond = batches.some(b => b.device === device.device && b.lane >= device.lanes);
  return beyond ? [...lanes, device.lanes] : lanes;
}

function draw() {
  if (offset === null || paused) return;
  const width = chart.clientWidth, plot = width - GUTTER, scale = plot / SPAN;
  const end = rightEnd();
  origin = end - SPAN;
  shift = 0;
  bars = [];
  moving = [];
  chosen = null;
  const parts = [];
  let y = 0;
  for (const device of devices) {
    parts.push(element("text", {x: 0, y: y + 15, class: "device"}, device.device));
    y += HEAD;
    for (const lane of lanesOf(device)) {
      const label = lane < device.lanes ? "lane " + lane : "in loop";
      parts.push(element("text", {x: 0, y: y + 15}, label));
      const row = element("svg", {x: GUTTER, y: y, width: plot, height: LANE});
      row.append(element("rect", {x: 0, y: 0, width: plot, height: LANE, class: "track", rx: 3}));
      const group = element("g", {});
      for (const bar of barsOf(device.device, lane, scale)) group.append(bar);
      row.append(group);
      moving.push(group);
      parts.push(row);
      y += LANE + GAP;
    }
  }
  for (let second = 0; second <= SPAN / 1000; second++) {
    const x = GUTTER + second * 1000 * scale;
    const ago = SPAN / 1000 - second;
    const anchor = second === 0 ? "start" : ago === 0 ? "end" : "middle";
    parts.push(element("line", {x1: x, x2: x, y1: y, y2: y + 4, class: "tick"}));
    parts.push(element("text", {x: x, y: y + 16, "text-anchor": anchor},
                       ago === 0 ? "now" : "-" + ago + " s"));
  }
  chart.setAttribute("viewBox", "0 0 " + width + " " + (y + AXIS));
  chart.setAttribute("height", y + AXIS);
  chart.replaceChildren(...parts);
}

function barsOf(device, lane, scale) {
  const mine = batches
    .filter(b => b.device === device && b.lane === lane)
    .sort((a, b) => a.began - b.began);
  const rects = [];
  let last = null;
  for (const batch of mine) {
    const x = (batch.began - origin) * scale;
    const width = Math.max((batch.ended - batch.began) * scale, 1);
    // Narrow bars of one model that touch are drawn as one.
    if (last && last.list[0].model === batch.model && width < 3 && x < last.end + 0.5
        && !batch.error && !last.list[0].error && last.end - last.x < 12) {
      last.list.push(batch);
      last.end = Math.max(last.end, x + width);
      last.rect.setAttribute("width", last.end - last.x);
      continue;
    }
    const rect = element("rect", {
      x: x, y: 2, width: width, height: LANE - 4, rx: Math.min(2, width / 2),
      class: colour(batch.model),
    });
    last = {rect: rect, lane: device + " " + lane, list: [batch], x: x, end: x + width};
    rect.bar = last;
    bars.push(last);
    rects.push(rect);
    if (batch.error) {
      rects.push(element("rect", {x: x - 1, y: LANE - 5, width: width + 2, height: 5, class: "mark"}));
    }
  }
  return rects;
}

function milliseconds(ns) {
  const value = ns / 1e6;
  return (value < 10 ? value.toFixed(2) : value.toFixed(1)) + " ms";
}

function count(number, word) {
  return number + " " + word + (number === 1 ? "" : word.endsWith("ch") ? "es" : "s");
}

function describe(bar) {
  const list = bar.list, first = list[0];
  const what = first.model + " version " + first.version + ", " + first.variant;
  const where = " on " + first.device + ", lane " + first.lane + ": ";
  const rows = list.reduce((sum, b) => sum + b.rows, 0);
  if (list.length > 1) {
    const busy = list.reduce((sum, b) => sum + b.ended - b.began, 0);
    return what + where + count(list.length, "batch") + " close together, "
      + count(rows, "row") + ", " + milliseconds(busy * 1e6) + " in all";
  }
  const padded = first.padded > rows ? " (run as " + first.padded + ")" : "";
  return what + where + count(rows, "row") + padded + " of " + count(first.requests, "request")
    + "; stage " + milliseconds(first.stage) + ", in " + milliseconds(first.h2d)
    + ", compute " + milliseconds(first.compute) + ", out " + milliseconds(first.d2h)
    + (first.error ? "; failed: " + first.error : "");
}

function choose(bar) {
  if (chosen) chosen.rect.classList.remove("chosen");
  chosen = bar;
  if (bar) bar.rect.classList.add("chosen");
  detail.textContent = bar ? describe(bar) : hint;
}

// The bars that are to be seen: the newest wait beyond the right end.
function seen() {
  const plot = chart.clientWidth - GUTTER;
  return bars.filter(bar => bar.end + shift > 0 && bar.x + shift < plot);
}

function pause(on) {
  if (paused === on) return;
  paused = on;
  if (!on) {
    choose(null);
    draw();
  }
}

chart.addEventListener("pointerover", event => {
  pause(true);
  if (event.target.bar) choose(event.target.bar);
});
chart.addEventListener("pointerleave", () => pause(document.activeElement === chart));
chart.addEventListener("focus", () => {
  pause(true);
  if (!chosen && seen().length) choose(seen().at(-1));
});
chart.addEventListener("blur", () => pause(false));
chart.addEventListener("keydown", event => {
  const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1};
  const step = steps[event.key];
  const list = seen();
  if (event.key === "Escape") chart.blur();
  if (!step || !list.length) return;
  event.preventDefault();
  let at = list.indexOf(chosen);
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    at = Math.min(Math.max(at + step, 0), list.length - 1);
  } else {
    const lane = chosen ? chosen.lane : "";
    while (list[at] && list[at].lane === lane) at += step;
    if (!list[at]) return;
  }
  choose(list[at]);
});

function move() {
  if (!paused && offset !== null && moving.length) {
    shift = (origin - (rightEnd() - SPAN)) * (chart.clientWidth - GUTTER) / SPAN;
    for (const group of moving) group.setAttribute("transform", "translate(" + shift + " 0)");
  }
  requestAnimationFrame(still.matches ? () => 0 : move);
}

function takeIn(status) {
  const now = status.now_ns / 1e6 - performance.now();
  // The server's clock does not jump; what jumps is how long an answer takes.
  offset = offset === null || Math.abs(now - offset) > 500 ? now : offset + (now - offset) / 10;
  next = status.next;
  devices = status.devices;
  for (const b of status.batches) {
    batches.push({
      device: b.device, lane: b.lane, model: b.model, version: b.version, variant: b.variant,
      requests: b.requests, rows: b.rows, padded: b.padded_rows, error: b.error,
      began: b.began_ns / 1e6, ended: b.ended_ns / 1e6,
      stage: b.stage_ns, h2d: b.h2d_ns, compute: b.compute_ns, d2h: b.d2h_ns,
    });
  }
  const oldest = rightEnd() - SPAN - EVERY;
  batches = batches.filter(b => b.ended > oldest);
  const known = [...new Set([...status.models.map(m => m.model), ...batches.map(b => b.model)])];
  if (known.join("\n") !== names.join("\n")) {
    names = known;
    legend.replaceChildren(...names.map(name => explained(name, 12, colour(name))),
                           explained("a batch that failed", 5, "mark"));
  }
}

function explained(text, height, kind) {
  const item = document.createElement("li");
  const sample = element("svg", {viewBox: "0 0 12 12", "aria-hidden": "true"});
  sample.append(element("rect", {y: 12 - height, width: 12, height: height, rx: 2, class: kind}));
  item.append(sample, text);
  return item;
}

// --- the tables -----------------------------------------------------------------------------

function renew(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.querySelector('[data-part="' + part.dataset.part + '"]');
    if (!old) continue;
    const now = old.querySelectorAll("[data-cell]"), then = part.querySelectorAll("[data-cell]");
    if (now.length !== then.length || !then.length) {
      if (old.innerHTML !== part.innerHTML) old.replaceWith(document.importNode(part, true));
      continue;
    }
    // Only what has changed, so that marked text stays marked.
    then.forEach((cell, index) => {
      if (now[index].innerHTML !== cell.innerHTML) now[index].innerHTML = cell.innerHTML;
      if (now[index].className !== cell.className) now[index].className = cell.className;
    });
  }
}

// --- once a second --------------------------------------------------------------------------

async function load(path) {
  const answer = await fetch(path, {cache: "no-store"});
  if (!answer.ok) throw new Error(path + ": " + answer.status);
  return answer;
}

async function turn() {
  if (!document.hidden) {
    try {
      takeIn(await (await load("/status.json?after=" + next)).json());
      renew(await (await load("/status/tables")).text());
      lost.classList.remove("shown");
      draw();
    } catch (error) {
      lost.classList.add("shown");
      lost.textContent = "The daemon does not answer; what follows may be old.";
    }
  }
  setTimeout(turn, EVERY);
}

document.getElementById("timeline").hidden = false;
addEventListener("resize", draw);
turn();
requestAnimationFrame(move);
