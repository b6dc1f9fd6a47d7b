// Medians and spreads over rounds.

export interface Summary {
  median: number;
  min: number;
  max: number;
  values: number[];
}

export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new Error('a summary needs a value');
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)!, values: [...values] };
}

export interface Line {
  slope: number;
  /** Half of the 95 % interval of the slope. */
  interval: number;
}

/** Student's t for a two-sided 95 % interval, by degrees of freedom from 1. */
const T95 = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14, 2.13];

/** Least squares, with how far the slope is known. Needs three points or more. */
export function lineThrough(points: readonly (readonly [x: number, y: number])[]): Line {
  const count = points.length;
  if (count < 3) throw new Error('a line with an interval needs three points');
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / count;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / count;
  let xx = 0;
  let xy = 0;
  for (const [x, y] of points) {
    xx += (x - meanX) ** 2;
    xy += (x - meanX) * (y - meanY);
  }
  const slope = xy / xx;
  const residual = points.reduce((sum, [x, y]) => sum + (y - meanY - slope * (x - meanX)) ** 2, 0);
  const standardError = Math.sqrt(residual / (count - 2) / xx);
  return { slope, interval: (T95[count - 3] ?? 1.96) * standardError };
}

export interface Ratio {
  ratio: number;
  /** The ends of its 95 % interval. */
  low: number;
  high: number;
}

/** The geometric mean of ratios with its 95 % interval, by Student's t over their logarithms. Needs two ratios or more. */
export function meanRatio(ratios: readonly number[]): Ratio {
  const count = ratios.length;
  if (count < 2) throw new Error('an interval needs two ratios');
  const logarithms = ratios.map(Math.log);
  const mean = logarithms.reduce((sum, value) => sum + value, 0) / count;
  const variance = logarithms.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  const half = (T95[count - 2] ?? 1.96) * Math.sqrt(variance / count);
  return { ratio: Math.exp(mean), low: Math.exp(mean - half), high: Math.exp(mean + half) };
}

/** @param sorted ascending */
export function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
