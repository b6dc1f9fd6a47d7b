// All sections of the bench, in the order in which they are measured and reported: what matters most comes first.
import type { Section } from './procedure.ts';
import { calls, chunks, large, uniqueHeaders } from './sections/calls.ts';
import { endpoints, headers, streams } from './sections/growth.ts';
import { memory, readiness } from './sections/memory.ts';
import { policies } from './sections/policies.ts';
import { rates } from './sections/rates.ts';
import { tls } from './sections/tls.ts';
import { tracing } from './sections/tracing.ts';

export const sections: readonly Section[] = [
  ...[calls, rates, uniqueHeaders, chunks, large, tracing, tls],
  ...[memory, readiness, endpoints, streams, headers, policies],
];

/** With --quick: a row of each kind, so that it ends within three minutes. */
export const quickSections: readonly Section[] = [
  ...[calls, rates, uniqueHeaders, chunks, large, readiness, tls, tracing, memory, endpoints],
];
