/**
 * Decides which calls are recorded, before anything of a trace exists: from the parent's flags, or from the numbers of
 * which a new trace id is made. So a call that is not recorded costs one comparison.
 */
export interface Sampler {
  /** Whether a child follows its parent's decision (`parentbased_…`). */
  readonly parentBased: boolean;
  /** The share of new traces to record, 0 to 1. */
  readonly ratio: number;
}

export const DEFAULT_SAMPLER: Sampler = { parentBased: true, ratio: 1 };

/**
 * The SDK's rule: record when the id's four words, folded into one, are below this bound. So all services with one
 * ratio agree.
 */
function upperBound(ratio: number): number {
  return ratio >= 1 ? 4_294_967_296 : Math.floor(ratio * 4_294_967_295);
}

/** Decides on a new trace by the id's four words, folded into one: random bits, of which the id is then made. */
export function samplesRoot({ ratio }: Sampler, folded: number): boolean {
  if (ratio >= 1) return true;
  if (ratio <= 0) return false;
  return folded >>> 0 < upperBound(ratio);
}

/** Decides on a call that continues the trace of this well-formed `traceparent`, with these flags. */
export function samplesChild({ parentBased, ratio }: Sampler, flags: number, traceparent: string): boolean {
  if (parentBased) return (flags & 1) !== 0;
  if (ratio >= 1) return true;
  if (ratio <= 0) return false;
  let folded = 0;
  for (let i = 3; i < 35; i += 8) {
    let word = 0;
    for (let j = i; j < i + 8; j++) {
      const code = traceparent.charCodeAt(j);
      word = (word << 4) | (code < 58 ? code - 48 : code - 87);
    }
    folded ^= word;
  }
  return folded >>> 0 < upperBound(ratio);
}

/**
 * The sampler that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` name (OpenTelemetry specification, "General SDK
 * Configuration"). An unknown value goes to `warn`, and the default applies.
 */
export function samplerFromEnvironment(
  name: string | undefined,
  argument: string | undefined,
  warn: (message: string) => void,
): Sampler {
  switch (name) {
    case undefined:
    case '':
    case 'parentbased_always_on':
      return DEFAULT_SAMPLER;
    case 'always_on':
      return { parentBased: false, ratio: 1 };
    case 'always_off':
      return { parentBased: false, ratio: 0 };
    case 'parentbased_always_off':
      return { parentBased: true, ratio: 0 };
    case 'traceidratio':
      return { parentBased: false, ratio: ratioOf(argument, warn) };
    case 'parentbased_traceidratio':
      return { parentBased: true, ratio: ratioOf(argument, warn) };
    default:
      warn(
        `OTEL_TRACES_SAMPLER=${name} is not known here; parentbased_always_on is used. Known: always_on, always_off, traceidratio, and these with parentbased_ before them`,
      );
      return DEFAULT_SAMPLER;
  }
}

function ratioOf(argument: string | undefined, warn: (message: string) => void): number {
  if (argument === undefined || argument.trim() === '') return 1;
  const ratio = Number(argument);
  if (ratio >= 0 && ratio <= 1) return ratio;
  warn(`OTEL_TRACES_SAMPLER_ARG=${argument} is not a number from 0 to 1; 1 is used`);
  return 1;
}
