// Queries of histograms with the same result for classic histograms, native ones, or both.

const RATE = '[$__rate_interval]';

/** Observations per second. @param by `` for the sum, or ` by (label, …)` */
export function rateOf(metric: string, match: string, by: string): string {
  const classic = `sum${by} (rate(${metric}_count{${match}}${RATE}))`;
  return `(${classic} or sum${by} (histogram_count(rate(${metric}{${match}}${RATE}))))`;
}

/** @param labels the labels that separate the quantiles, joined by commas; '' for one quantile */
export function quantileOf(q: number, metric: string, match: string, labels: string): string {
  const classic = `sum by (${['le', labels].filter(Boolean).join(', ')}) (rate(${metric}_bucket{${match}}${RATE}))`;
  const native = `sum by (${labels}) (rate(${metric}{${match}}${RATE}))`;
  return `histogram_quantile(${q}, ${classic}) or histogram_quantile(${q}, ${native})`;
}
