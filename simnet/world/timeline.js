// Draws the timeline. timeline_input.js goes on with it: both are one script, in one scope of their own.

const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const NS = 1e9, LABEL = 92, OVERVIEW = 54, AXIS = 28, WORLD_HEIGHT = 30;
const laneHeight = Math.max(11, Math.min(30, Math.floor(640 / data.lanes.length)));
const shown = data.kinds.map(() => true);
const view = { from: data.from, until: data.until };
const byLane = data.lanes.map(() => []);
for (const mark of data.marks) byLane[mark[2]].push(mark);
let width = 0, hovered = null, colours = {};

// ---- text: all of it goes in as text nodes, none as markup

const make = (tag, text, parent, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  if (parent) parent.append(element);
  return element;
};
const number = (value) => value.toLocaleString("en");
const pad = (value, digits) => String(value).padStart(digits, "0");
const formatTime = (ns, digits = 3) => {
  const seconds = Math.floor(ns / NS), days = Math.floor(seconds / 86400);
  const clock = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60].map((part) => pad(Math.floor(part), 2));
  const rest = digits ? "." + pad(Math.floor(ns % NS), 9).slice(0, digits) : "";
  return (days ? days + "d " : "") + clock.join(":") + rest;
};
const describe = (mark) => {
  const kind = data.kinds[mark[3]];
  const time = formatTime(mark[0]) + (mark[1] > mark[0] ? " – " + formatTime(mark[1]) : "");
  return { time, place: data.lanes[mark[2]], kind, count: mark[4], detail: mark[5] };
};

// ---- where things are

const left = () => LABEL;
const toX = (ns) => left() + (ns - view.from) / (view.until - view.from) * (width - left() - 12);
const toNs = (x) => view.from + (x - left()) / (width - left() - 12) * (view.until - view.from);
const laneTop = (lane) => lane ? WORLD_HEIGHT + (lane - 1) * laneHeight : 0;
const laneSize = (lane) => lane ? laneHeight : WORLD_HEIGHT;
const laneAt = (y) => y < WORLD_HEIGHT ? 0 : 1 + Math.floor((y - WORLD_HEIGHT) / laneHeight);
const firstBehind = (marks, ns) => {
  let low = 0, high = marks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (marks[middle][0] < ns) low = middle + 1; else high = middle;
  }
  return low;
};
const setView = (from, until) => {
  const whole = data.until - data.from;
  const size = Math.min(whole, Math.max(until - from, Math.min(whole, 1000)));
  view.from = Math.min(Math.max(from, data.from), data.until - size);
  view.until = view.from + size;
  draw();
};
const zoom = (factor, around) => {
  setView(around - (around - view.from) * factor, around + (view.until - around) * factor);
};

// ---- drawing

const open = (id, height) => {
  const canvas = get(id), scale = window.devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.font = "12px system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
  pen.textBaseline = "middle";
  return pen;
};
const steps = [1e-6, 1e-5, 1e-4, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
  900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000, 8640000, 31536000];
const ticks = () => {
  const least = (view.until - view.from) / NS / Math.max(1, (width - left()) / 120);
  const step = (steps.find((one) => one >= least) || least) * NS;
  const found = [];
  for (let ns = Math.ceil(view.from / step) * step; ns <= view.until && found.length < 100; ns += step) found.push(ns);
  return { found, digits: step >= NS ? 0 : Math.min(9, Math.ceil(-Math.log10(step / NS))) };
};
const fit = (pen, text, room) => {
  if (pen.measureText(text).width <= room) return text;
  const letters = Math.floor(text.length * room / pen.measureText(text).width) - 1;
  return letters > 2 ? text.slice(0, letters) + "…" : "";
};
const shadeSpan = (pen, from, until, top, height, colour, edge) => {
  const x = Math.max(left(), toX(from)), end = Math.min(width - 12, toX(until));
  if (end < left() || x > width - 12) return;
  pen.fillStyle = colour;
  pen.fillRect(x, top, Math.max(1.5, end - x), height);
  pen.fillStyle = edge;
  if (toX(from) >= left()) pen.fillRect(x, top, 1, height);
};
const isDown = (span) => span[3] !== "partition";

const drawAxis = () => {
  const pen = open("axis", AXIS), { found, digits } = ticks();
  pen.fillStyle = colours.soft;
  pen.fillText("virtual time", 12, AXIS / 2);
  for (const ns of found) {
    const text = formatTime(ns, digits), half = pen.measureText(text).width / 2;
    if (toX(ns) + half < width && toX(ns) - half > left() - 10) pen.fillText(text, toX(ns) - half, AXIS / 2);
  }
};

const drawOverview = () => {
  const pen = open("overview", OVERVIEW), room = width - left() - 12, whole = data.until - data.from;
  const most = Math.floor(room / 3), windows = data.window ? Math.ceil(whole / data.window) : most;
  const buckets = new Float64Array(Math.max(1, Math.min(most, windows)));
  const at = (ns) => left() + (ns - data.from) / whole * room;
  for (const mark of data.marks) {
    if (!shown[mark[3]]) continue;
    const bucket = (ns) => Math.min(buckets.length - 1, Math.floor((ns - data.from) / whole * buckets.length));
    const folded = data.window && !data.kinds[mark[3]].loud, start = Math.floor(mark[0] / data.window) * data.window;
    const first = bucket(folded ? Math.max(data.from, start) : mark[0]);
    const last = bucket(folded ? Math.min(data.until, start + data.window) : mark[1]);
    for (let one = first; one <= last; one++) buckets[one] += mark[4] / (last - first + 1);
  }
  const fullest = Math.max(1, ...buckets);
  for (const span of data.spans) {
    if (isDown(span)) continue;
    pen.fillStyle = colours.cut;
    pen.fillRect(at(span[0]), 0, Math.max(1.5, at(span[1] ?? data.until) - at(span[0])), OVERVIEW);
  }
  pen.fillStyle = colours.call;
  buckets.forEach((count, one) => {
    const height = count ? Math.max(1.5, Math.sqrt(count / fullest) * (OVERVIEW - 14)) : 0;
    pen.fillRect(left() + one * room / buckets.length, OVERVIEW - 4 - height, room / buckets.length - 0.6, height);
  });
  pen.fillStyle = colours.bad;
  for (const span of data.spans) if (isDown(span)) pen.fillRect(at(span[0]) - 0.75, 2, 1.5, 5);
  for (const failure of data.failures) pen.fillRect(at(failure[0]) - 1, 0, 2, OVERVIEW);
  pen.fillStyle = colours.soft;
  pen.fillText("whole run", 12, OVERVIEW / 2);
  pen.globalAlpha = 0.65;
  pen.fillStyle = colours.card;
  pen.fillRect(left(), 0, at(view.from) - left(), OVERVIEW);
  pen.fillRect(at(view.until), 0, width - at(view.until), OVERVIEW);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.data;
  pen.strokeRect(at(view.from), 0.5, Math.max(2, at(view.until) - at(view.from)), OVERVIEW - 1);
};

const drawSpans = (pen, height) => {
  for (const span of data.spans) {
    const until = span[1] ?? data.until;
    if (isDown(span)) {
      shadeSpan(pen, span[0], until, laneTop(span[2]), laneSize(span[2]), colours.down, colours.bad);
    } else {
      const whole = span[2] === 0;
      shadeSpan(pen, span[0], until, whole ? 0 : laneTop(span[2]), whole ? height : laneHeight, colours.cut, colours.warn);
    }
  }
};

const drawGround = (pen, height) => {
  for (let lane = 1; lane < data.lanes.length; lane++) {
    pen.fillStyle = lane % 2 ? colours.stripe : colours.card;
    pen.fillRect(0, laneTop(lane), width, laneHeight);
  }
  pen.fillStyle = colours.rule;
  for (const ns of ticks().found) if (toX(ns) >= left()) pen.fillRect(toX(ns), 0, 1, height);
  const every = Math.ceil(14 / laneHeight);
  pen.fillStyle = colours.soft;
  data.lanes.forEach((name, lane) => {
    if (lane && (lane - 1) % every) return;
    pen.fillText(fit(pen, name, LABEL - 18), 12, laneTop(lane) + laneSize(lane) / 2);
  });
  pen.fillStyle = colours.rule;
  pen.fillRect(0, WORLD_HEIGHT - 1, width, 1);
};

const drawMark = (pen, mark, kind, x, end, middle, size) => {
  pen.fillStyle = pen.strokeStyle = colours[kind.colour];
  if (end - x > 2 * size) {
    pen.globalAlpha = 0.55;
    pen.fillRect(x, middle - size / 2.4, end - x, size / 1.2);
    pen.globalAlpha = 1;
  } else if (kind.colour === "bad") {
    pen.lineWidth = 2.2;
    pen.beginPath();
    pen.moveTo(x - size, middle - size); pen.lineTo(x + size, middle + size);
    pen.moveTo(x + size, middle - size); pen.lineTo(x - size, middle + size);
    pen.stroke();
    pen.lineWidth = 1;
  } else if (kind.colour === "data") {
    pen.fillRect(x - size * 0.8, middle - size * 0.8, size * 1.6, size * 1.6);
  } else {
    pen.globalAlpha = kind.loud ? 1 : 0.75;
    pen.beginPath();
    pen.arc(x, middle, kind.loud ? size : size * 0.8, 0, 7);
    pen.fill();
    pen.globalAlpha = 1;
  }
};

// Folded events are drawn as how much went on in each window of time, in the colour of what there is most of.
const sumWindows = (marks) => {
  const windows = new Map();
  for (const mark of marks) {
    const kind = data.kinds[mark[3]];
    if (!shown[mark[3]] || kind.loud) continue;
    const at = Math.floor(mark[0] / data.window), found = windows.get(at);
    if (!found) windows.set(at, { count: mark[4], most: mark[4], kind });
    else {
      found.count += mark[4];
      if (mark[4] > found.most) { found.most = mark[4]; found.kind = kind; }
    }
  }
  return windows;
};
let heat = [], hottest = 1;
const computeHeat = () => {
  if (!data.window) return;
  heat = byLane.map(sumWindows);
  hottest = 1;
  for (const windows of heat) for (const one of windows.values()) hottest = Math.max(hottest, one.count);
};
const drawHeat = (pen, windows, lane) => {
  const top = laneTop(lane) + 1.5, height = laneSize(lane) - 3;
  for (const [at, one] of windows) {
    const x = Math.max(left(), toX(at * data.window));
    const end = Math.min(width - 12, toX(Math.min(data.until, (at + 1) * data.window)));
    if (end <= left() || x > width - 12) continue;
    pen.globalAlpha = 0.08 + 0.8 * Math.pow(one.count / hottest, 0.7);
    pen.fillStyle = colours[one.kind.colour];
    pen.fillRect(x, top, Math.max(1, end - x - (end - x > 6 ? 1 : 0)), height);
  }
  pen.globalAlpha = 1;
};

const drawLane = (pen, marks, lane) => {
  const middle = laneTop(lane) + laneSize(lane) / 2, base = Math.min(5, laneHeight / 2 - 2);
  const taken = new Map();
  const loud = [];
  const put = (mark) => {
    const kind = data.kinds[mark[3]], x = toX(mark[0]), end = Math.min(width - 12, toX(mark[1]));
    if (end < left() || x > width - 12) return;
    // What would lie under a like mark is not drawn: a million events are a few thousand pixels.
    if (end - x < 2 && Math.floor(x) === taken.get(mark[3])) return;
    taken.set(mark[3], Math.floor(x));
    const size = kind.loud ? base : Math.min(base, base * 0.62 + Math.log10(mark[4]));
    drawMark(pen, mark, kind, Math.max(left(), x), end, middle, size);
  };
  for (const mark of marks) {
    if (!shown[mark[3]]) continue;
    if (data.kinds[mark[3]].loud) loud.push(mark); else if (!data.window) put(mark);
  }
  loud.forEach(put);
};

const drawStoryText = (pen) => {
  const marks = byLane[0].filter((mark) => shown[mark[3]] && mark[0] <= view.until && mark[0] >= view.from);
  marks.slice(0, 400).forEach((mark, one) => {
    const next = one + 1 < marks.length ? toX(marks[one + 1][0]) : width;
    const room = next - toX(mark[0]) - 22;
    if (room < 30) return;
    const { kind, detail } = describe(mark);
    pen.fillStyle = colours[kind.colour];
    pen.fillText(fit(pen, detail ? kind.name + ": " + detail : kind.name, room), toX(mark[0]) + 9, WORLD_HEIGHT / 2);
  });
};

const drawLanes = () => {
  const height = laneTop(data.lanes.length), pen = open("lanes", height + 6);
  drawGround(pen, height);
  if (data.window) heat.forEach((windows, lane) => drawHeat(pen, windows, lane));
  drawSpans(pen, height);
  byLane.forEach((marks, lane) => drawLane(pen, marks, lane));
  drawStoryText(pen);
  pen.fillStyle = colours.bad;
  for (const failure of data.failures) {
    const x = toX(failure[0]);
    if (x >= left() && x <= width) pen.fillRect(x - 0.75, 0, 1.5, height);
  }
  if (hovered) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.arc(Math.max(left(), toX(hovered[0])), laneTop(hovered[2]) + laneSize(hovered[2]) / 2, 8, 0, 7);
    pen.stroke();
  }
};

let asked = false;
const draw = () => {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawOverview();
    drawAxis();
    drawLanes();
  });
};
const measure = () => {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "card", "ink", "soft", "rule", "stripe", "bad", "warn", "good", "data", "call", "story",
    "plain", "down", "cut", "line"]) colours[name] = style.getPropertyValue("--" + name).trim();
  width = get("view").clientWidth;
  draw();
};
