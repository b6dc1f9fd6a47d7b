// Draws the last ten minutes: success, calls a second and p95, with the events on them.
import { element, setText, svg, sync } from './elements.js';
import { latency, percent, rate } from './numbers.js';

const LABELS = 74;
/** Half a mark's width, for an event of this moment. */
const RIGHT = 5;
const STRIP = 44;
const STRIP_GAP = 8;
const AXIS = 18;
const TOP = 12;
/** The chart begins with two minutes and grows to ten: it shows no more empty time than it has to. */
const SPANS = [24, 60, 120];
const BEGINS = 'The chart begins with the first ten seconds of traffic.';
const UNKNOWN = 'Nothing is known of the traffic: no sidecar counts it.';
const STRIPS = ['success', 'calls', 'p95'];
const TITLES = { success: 'success', calls: 'calls/s', p95: 'p95' };
const SHAPES = { bad: 'M0 0L4.5 -8H-4.5Z', warn: 'M0 0L4.5 -4L0 -8L-4.5 -4Z', good: 'M-4 -8H4V0H-4Z' };

export class HistoryChart {
  constructor(box) {
    this.box = box;
    this.picture = svg('svg', { class: 'history', role: 'img' });
    this.strips = STRIPS.map((name) => createStrip(name));
    this.marks = svg('g', { class: 'marks' });
    this.axis = [svg('text', { class: 'axis' }), svg('text', { class: 'axis', 'text-anchor': 'end' })];
    this.picture.append(...this.strips.map(({ group }) => group), this.marks, ...this.axis);
    this.empty = element('p', 'empty');
    box.append(this.picture, this.empty);
    this.shown = undefined;
    new ResizeObserver(() => this.draw()).observe(box);
  }

  /**
   * @param history every_ms, newest_at, and a value for each point: calls, errors, p95_ms
   * @param events [{ id, at, tone, message }]
   */
  show(history, events) {
    this.shown = { history, events };
    this.draw();
  }

  draw() {
    if (this.shown === undefined) return;
    const { history, events } = this.shown;
    const none = history === null || history.newest_at === null;
    this.empty.hidden = !none;
    setText(this.empty, history === null ? UNKNOWN : BEGINS);
    this.picture.toggleAttribute('hidden', none);
    if (none) return;
    const width = Math.max(this.box.clientWidth, LABELS + 40);
    const height = TOP + 3 * STRIP + 2 * STRIP_GAP + AXIS;
    for (const [name, value] of Object.entries({ width, height }))
      this.picture.setAttribute(name, String(value));
    const values = valuesOf(history);
    const points = SPANS.find((span) => span >= values.calls.length) ?? SPANS.at(-1);
    const room = { left: LABELS, width: width - LABELS - RIGHT, points };
    for (const [at, strip] of this.strips.entries())
      drawStrip(strip, values, room, TOP + at * (STRIP + STRIP_GAP));
    this.drawMarks(history, events, room, height - AXIS);
    this.drawAxis(history, room, height);
    this.picture.setAttribute('aria-label', summaryOf(values));
  }

  drawAxis({ every_ms: everyMs }, room, height) {
    const [from, to] = this.axis;
    const minutes = Math.round((room.points * everyMs) / 60_000);
    for (const [node, x, text] of [
      [from, room.left, `${minutes} min ago`],
      [to, room.left + room.width, 'now'],
    ]) {
      node.setAttribute('x', String(x));
      node.setAttribute('y', String(height - 3));
      setText(node, text);
    }
  }

  drawMarks({ every_ms: everyMs, newest_at: newest }, events, room, bottom) {
    const newestMs = Date.parse(newest);
    const spanMs = room.points * everyMs;
    const seen = events
      .map((event) => ({ ...event, agoMs: newestMs - Date.parse(event.at) }))
      .filter(({ agoMs, tone }) => agoMs < spanMs && tone in SHAPES);
    sync(
      this.marks,
      seen,
      ({ id }) => id,
      createMark,
      (mark, { agoMs, tone, message }) => {
        const x = room.left + room.width * Math.min(1 - agoMs / spanMs, 1);
        mark.setAttribute('class', `mark-line ${tone}`);
        mark.parts.line.setAttribute('d', `M${x.toFixed(1)} ${TOP - 2}V${bottom}`);
        mark.parts.shape.setAttribute('d', SHAPES[tone]);
        mark.parts.shape.setAttribute('transform', `translate(${x.toFixed(1)} ${TOP - 2})`);
        setText(mark.parts.title, message);
      },
    );
  }
}

function createMark() {
  const parts = { title: svg('title'), line: svg('path'), shape: svg('path', { class: 'shape' }) };
  const mark = svg('g');
  mark.append(parts.title, parts.line, parts.shape);
  mark.parts = parts;
  return mark;
}

function createStrip(name) {
  const parts = {
    base: svg('path', { class: 'base' }),
    area: svg('path', { class: 'area' }),
    line: svg('path', { class: 'curve' }),
    title: svg('text', { class: 'axis' }),
    value: svg('text', { class: 'now-value' }),
  };
  const group = svg('g', { class: `strip-${name}` });
  group.append(parts.base, parts.area, parts.line, parts.title, parts.value);
  return { name, group, parts };
}

/** The values of each strip, null where nothing is known. */
function valuesOf({ every_ms: everyMs, calls, success, p95_ms: p95 }) {
  return {
    success,
    calls: calls.map((count) => (count === null ? null : (count * 1000) / everyMs)),
    p95,
  };
}

function drawStrip({ name, parts }, values, room, top) {
  const points = values[name];
  const highest = Math.max(...points.map((value) => value ?? 0));
  const scale = name === 'success' ? 1 : roundUp(Math.max(highest, name === 'calls' ? 1 : 50));
  const bottom = top + STRIP;
  const at = points.map((value, i) =>
    value === null
      ? null
      : [
          room.left + (room.width * (room.points - points.length + i + 1)) / room.points,
          bottom - 1 - (Math.min(value, scale) / scale) * (STRIP - 3),
        ],
  );
  const runs = runsOf(at);
  const text = (run) => run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join('L');
  parts.line.setAttribute('d', runs.map((run) => `M${text(run)}${run.length === 1 ? 'h1' : ''}`).join(''));
  parts.area.setAttribute(
    'd',
    runs.map((run) => `M${run[0][0].toFixed(1)} ${bottom}L${text(run)}V${bottom}Z`).join(''),
  );
  parts.base.setAttribute('d', `M${room.left} ${bottom}h${room.width}`);
  place(parts.title, 0, top + 14, TITLES[name]);
  place(parts.value, 0, top + 33, format[name](points.at(-1) ?? null));
}

const format = {
  success: (value) => (value === null ? '–' : percent(value)),
  calls: (value) => (value === null ? '–' : rate(value)),
  p95: (value) => latency(value),
};

function place(node, x, y, text) {
  node.setAttribute('x', String(x));
  node.setAttribute('y', String(y));
  setText(node, text);
}

/** The parts of a line without a gap. */
function runsOf(points) {
  const runs = [[]];
  for (const point of points) {
    if (point !== null) runs.at(-1).push(point);
    else if (runs.at(-1).length > 0) runs.push([]);
  }
  return runs.filter(({ length }) => length > 0);
}

function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

function summaryOf({ success, calls, p95 }) {
  const known = success.filter((value) => value !== null);
  if (known.length === 0) return 'The last ten minutes: no calls.';
  return (
    `The last ten minutes: lowest success ${percent(Math.min(...known))}, ` +
    `highest rate ${rate(Math.max(...calls))} calls a second, highest p95 ${latency(Math.max(...p95.map((value) => value ?? 0)))}.`
  );
}
