// Charts as inline SVG: lines over a linear or logarithmic axis, and stacked bars.

const WIDTH = 860;
const HEIGHT = 300;
const LEFT = 72;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 44;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = HEIGHT - TOP - BOTTOM;
const X_TICKS = 8;

export interface Axis {
  /** The position within the plot, from 0 to 1. */
  readonly place: (value: number) => number;
  readonly ticks: readonly { readonly value: number; readonly label: string }[];
}

export interface Series {
  readonly name: string;
  /** A class of the page's style sheet, which sets the colour. */
  readonly style: string;
  /** A point without a y interrupts the line. */
  readonly points: readonly (readonly [x: number, y: number | undefined])[];
}

/** The ticks 1, 10, 100 …, with 2 and 5 between for a short range. */
export function logAxis(least: number, most: number, format: (value: number) => string): Axis {
  const low = Math.floor(Math.log10(Math.max(1e-3, least)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(1e-3, most)) - 1e-9));
  const steps = high - low <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = low; power <= high; power++) {
    for (const step of steps) {
      const value = Number((step * 10 ** power).toPrecision(1));
      if (Math.log10(value) <= high + 1e-9) ticks.push({ value, label: format(value) });
    }
  }
  return {
    place: (value) => (Math.log10(Math.max(10 ** low, value)) - low) / (high - low),
    ticks,
  };
}

/** From 0 to the next round number. */
export function linearAxis(most: number, format: (value: number) => string, wanted = 5): Axis {
  const rough = Math.max(most, 1e-9) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough - 1e-12) ?? 10);
  const end = Math.max(step, Math.ceil(most / step - 1e-9) * step);
  const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, i) => {
    const value = Number((i * step).toPrecision(12));
    return { value, label: format(value) };
  });
  return { place: (value) => value / end, ticks };
}

/** Seconds up to the end of the run. */
export function timeAxis(seconds: number, format: (value: number) => string): Axis {
  const { ticks } = linearAxis(seconds, format, X_TICKS);
  return { place: (value) => value / seconds, ticks: ticks.filter(({ value }) => value <= seconds) };
}

/** Each nine is as wide as the one before it: 0, 90, 99, 99.9 % … */
export function percentileAxis(last: number): Axis {
  const distance = (percent: number): number => -Math.log10(1 - Math.min(percent, 99.99999) / 100);
  const most = Math.max(1, distance(last));
  const ticks = [0, 50, 75, 90, 95, 99, 99.9, 99.99, 99.999, 99.9999]
    .filter((percent) => distance(percent) <= most + 1e-9)
    .map((value) => ({ value, label: `${value} %` }));
  return { place: (percent) => distance(percent) / most, ticks };
}

export function lineChart(label: string, x: Axis, y: Axis, series: readonly Series[]): string {
  const lines = series.map(({ style, points }) => {
    let path = '';
    let drawing = false;
    const dots: string[] = [];
    points.forEach(([atX, atY], i) => {
      if (atY === undefined) {
        drawing = false;
        return;
      }
      const place = `${across(x.place(atX))} ${up(y.place(atY))}`;
      path += `${drawing ? 'L' : 'M'}${place}`;
      // A single point would have no line.
      if (!drawing && points[i + 1]?.[1] === undefined) {
        const [cx, cy] = place.split(' ');
        dots.push(`<circle class="${style}" cx="${cx}" cy="${cy}" r="3"/>`);
      }
      drawing = true;
    });
    return `<path class="line ${style}" d="${path}"/>${dots.join('')}`;
  });
  return svg(label, x, y, lines.join(''));
}

export interface Bar {
  readonly from: number;
  readonly to: number;
  /** From bottom to top. */
  readonly parts: readonly { readonly style: string; readonly value: number }[];
}

export function barChart(label: string, x: Axis, y: Axis, bars: readonly Bar[]): string {
  const rectangles: string[] = [];
  for (const { from, to, parts } of bars) {
    const left = across(x.place(from));
    const width = Math.max(0.5, across(Math.min(1, x.place(to))) - left - 0.5);
    let below = 0;
    for (const { style, value } of parts) {
      if (value <= 0) continue;
      const bottom = up(y.place(below));
      const top = up(y.place(below + value));
      rectangles.push(
        `<rect class="${style}" x="${left}" y="${top}" width="${width.toFixed(2)}" height="${(bottom - top).toFixed(2)}"/>`,
      );
      below += value;
    }
  }
  return svg(label, x, y, rectangles.join(''));
}

function svg(label: string, x: Axis, y: Axis, content: string): string {
  const horizontal = y.ticks.map(({ value, label }) => {
    const at = up(y.place(value));
    return (
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at}" y2="${at}"/>` +
      `<text x="${LEFT - 8}" y="${at + 4}" text-anchor="end">${escapeHtml(label)}</text>`
    );
  });
  const vertical = x.ticks.map(({ value, label }) => {
    const at = across(x.place(value));
    return (
      `<line class="grid" x1="${at}" x2="${at}" y1="${TOP}" y2="${TOP + PLOT_HEIGHT}"/>` +
      `<text x="${at}" y="${HEIGHT - BOTTOM + 20}" text-anchor="middle">${escapeHtml(label)}</text>`
    );
  });
  return (
    `<svg role="img" aria-label="${escapeHtml(label)}" viewBox="0 0 ${WIDTH} ${HEIGHT}">` +
    `${horizontal.join('')}${vertical.join('')}${content}</svg>`
  );
}

function across(share: number): number {
  return Number((LEFT + share * PLOT_WIDTH).toFixed(2));
}

function up(share: number): number {
  return Number((TOP + (1 - Math.min(1, Math.max(0, share))) * PLOT_HEIGHT).toFixed(2));
}

export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
