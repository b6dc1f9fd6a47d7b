// Formats numbers, durations and times.

export function count(value) {
  if (value >= 100_000) return `${Math.round(value / 1000)} k`;
  return new Intl.NumberFormat('en').format(value);
}

export function rate(value) {
  return value >= 100 ? count(Math.round(value)) : String(Math.round(value * 10) / 10);
}

/** Durations are from a histogram that begins at 5 ms and ends at an hour. */
export function latency(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms <= 5) return '≤ 5 ms';
  if (ms >= 3_600_000) return '≥ 1 h';
  return duration(ms);
}

export function duration(ms) {
  if (ms < 10) return `${Math.round(ms * 10) / 10} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms / 1000);
}

/** Formats a duration: `42 s`, `3 min 5 s`, `2 h 4 min`. */
export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

export function timeOf(date) {
  return date.toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  });
}

/** The share of successes, rounded so that 100 % means all: `99.9 %`. */
export function percent(share) {
  if (share >= 1) return '100 %';
  const value = share * 100;
  return value > 99 ? `${Math.min(99.9, Math.round(value * 10) / 10)} %` : `${Math.round(value)} %`;
}
