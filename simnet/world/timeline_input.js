// What readers do with the timeline, and the rest of the page; the names are those of timeline.js.

// ---- hand and eye

const findMark = (x, y) => {
  const lane = laneAt(y), marks = byLane[lane];
  if (!marks || x < left() - 6) return null;
  let best = null, least = 9;
  const reach = (toNs(10) - toNs(0));
  for (let one = firstBehind(marks, toNs(x) + reach) - 1, tries = 0; one >= 0 && tries < 3000; one--, tries++) {
    const mark = marks[one];
    if (!shown[mark[3]]) continue;
    const from = toX(mark[0]), until = toX(mark[1]);
    const distance = x < from ? from - x : x > until ? x - until : Math.min(4, x - from);
    const rank = distance - (data.kinds[mark[3]].loud ? 3 : 0);
    if (distance < 9 && rank < least) { best = mark; least = rank; }
  }
  return best;
};
const findSpan = (x, y) => {
  const ns = toNs(x), lane = laneAt(y);
  if (x < left()) return null;
  return data.spans.find((span) => span[0] <= ns && ns <= (span[1] ?? data.until)
    && (span[2] === lane || (span[2] === 0 && !isDown(span)))) || null;
};
const showTip = (event, own, time, place, kind, detail) => {
  const tip = get("tip");
  tip.replaceChildren();
  tip.hidden = false;
  tip.style.setProperty("--own", colours[own]);
  make("div", time, tip);
  const line = make("div", undefined, tip);
  make("b", kind, line);
  make("span", "  " + place, line);
  if (detail) make("div", detail, tip);
  tip.style.left = Math.max(4, Math.min(event.clientX + 16, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(4, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)) + "px";
};
const onHover = (event) => {
  const mark = findMark(event.offsetX, event.offsetY), span = mark ? null : findSpan(event.offsetX, event.offsetY);
  if (mark !== hovered) { hovered = mark; draw(); }
  if (mark) {
    const { time, place, kind, count, detail } = describe(mark);
    const first = count > 1 && detail ? "first: " + detail : detail;
    showTip(event, kind.colour, time, place, count > 1 ? kind.name + " ×" + number(count) : kind.name, first);
  } else if (span) {
    const end = span[1] === null ? "the end" : formatTime(span[1]);
    const what = isDown(span) ? "down since " + span[3] : span[3];
    showTip(event, isDown(span) ? "bad" : "warn", formatTime(span[0]) + " – " + end, data.lanes[span[2]], what, span[4]);
  } else get("tip").hidden = true;
};

const lanes = get("lanes"), overview = get("overview");
let grip = null, brush = null;
lanes.addEventListener("pointerdown", (event) => {
  grip = { x: event.offsetX, from: view.from, until: view.until };
  lanes.setPointerCapture(event.pointerId);
  lanes.classList.add("moves");
});
lanes.addEventListener("pointermove", (event) => {
  if (!grip) return onHover(event);
  const by = (grip.x - event.offsetX) / (width - left() - 12) * (grip.until - grip.from);
  setView(grip.from + by, grip.until + by);
});
const letGo = () => { grip = null; lanes.classList.remove("moves"); };
lanes.addEventListener("pointerup", letGo);
lanes.addEventListener("pointercancel", letGo);
lanes.addEventListener("pointerleave", () => { get("tip").hidden = true; hovered = null; draw(); });
lanes.addEventListener("dblclick", (event) => zoom(0.25, toNs(event.offsetX)));
lanes.addEventListener("wheel", (event) => {
  if (event.shiftKey) return;
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const by = event.deltaX / width * (view.until - view.from);
    setView(view.from + by, view.until + by);
  } else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), toNs(Math.max(left(), event.offsetX)));
}, { passive: false });
const overviewNs = (x) => data.from + (x - left()) / (width - left() - 12) * (data.until - data.from);
overview.addEventListener("pointerdown", (event) => {
  brush = overviewNs(event.offsetX);
  overview.setPointerCapture(event.pointerId);
});
overview.addEventListener("pointermove", (event) => {
  const now = overviewNs(event.offsetX);
  if (brush !== null && now !== brush) setView(Math.min(brush, now), Math.max(brush, now));
});
overview.addEventListener("pointerup", (event) => {
  const now = overviewNs(event.offsetX), half = (view.until - view.from) / 2;
  if (now === brush) setView(now - half, now + half);
  brush = null;
});
const middle = () => (view.from + view.until) / 2;
get("in").addEventListener("click", () => zoom(0.5, middle()));
get("out").addEventListener("click", () => zoom(2, middle()));
get("all").addEventListener("click", () => setView(data.from, data.until));
document.addEventListener("keydown", (event) => {
  const by = (view.until - view.from) / 5;
  const keys = {
    "+": () => zoom(0.5, middle()), "-": () => zoom(2, middle()), "0": () => setView(data.from, data.until),
    ArrowLeft: () => setView(view.from - by, view.until - by), ArrowRight: () => setView(view.from + by, view.until + by),
  };
  if (keys[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) { keys[event.key](); event.preventDefault(); }
});

// ---- the rest of the page

const addFact = (name, value, kind) => {
  const pair = make("div", undefined, get("facts"));
  make("dt", name, pair);
  make("dd", value, pair, kind);
};
const lookAt = (ns) => {
  const half = Math.min(view.until - view.from, (data.until - data.from) / 20) / 2;
  setView(ns - half, ns + half);
  get("view").scrollIntoView({ block: "nearest" });
};
const list = (id, rows) => {
  get(id).hidden = !rows.length;
  for (const [ns, colour, what, text] of rows) {
    const item = make("li", undefined, get(id).querySelector("ol"));
    item.style.setProperty("--own", "var(--" + colour + ")");
    for (const part of [formatTime(ns), what, text]) make("span", part, item);
    item.addEventListener("click", () => lookAt(ns));
  }
};
get("name").textContent = data.scenario;
get("verdict").textContent = data.failed ? number(data.failed) + " failed" : "nothing failed";
if (data.failed) get("verdict").classList.add("bad");
addFact("seed", data.seed);
addFact("nodes", number(data.lanes.length - 1));
addFact("events", number(data.count));
addFact("virtual time", data.length);
addFact("run", data.hash, "hash");
for (const remark of data.remarks) make("li", remark, get("notes"), "remark");
for (const note of data.notes) make("li", note, get("notes"));
data.kinds.forEach((kind, one) => {
  const button = make("button", kind.name, get("kinds"));
  make("small", number(kind.count), button);
  button.style.setProperty("--own", "var(--" + kind.colour + ")");
  button.setAttribute("aria-pressed", "true");
  button.title = "Show or hide; double click shows this kind alone";
  const press = () => [...get("kinds").children].forEach((other, at) => other.setAttribute("aria-pressed", String(shown[at])));
  button.addEventListener("click", () => { shown[one] = !shown[one]; press(); computeHeat(); draw(); });
  button.addEventListener("dblclick", () => {
    const alone = shown.every((is, at) => is === (at === one));
    shown.forEach((_, at) => { shown[at] = alone || at === one; });
    press();
    computeHeat();
    draw();
  });
});
list("failures", data.failures.map(([ns, lane, kind, text]) => [ns, "bad", data.lanes[lane], kind + ": " + text]));
list("story", byLane[0].slice(0, data.story).map((mark) => {
  const { kind, count, detail } = describe(mark);
  return [mark[0], kind.colour, count > 1 ? kind.name + " ×" + number(count) : kind.name, detail];
}));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", measure);
computeHeat();
new ResizeObserver(measure).observe(get("view"));
measure();
