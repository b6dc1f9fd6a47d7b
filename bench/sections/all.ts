// All sections of the bench, in the order in which they are measured and reported: the most important one first.
import type { Section } from '../measuring/procedure.ts';
import { calls, chunks, large, uniqueHeaders } from './calls.ts';
import { endpoints, headers, streams } from './growth.ts';
import { memory, readiness } from './memory.ts';
import { policies } from './policies.ts';
import { rates } from './rates.ts';
import { tls } from './tls.ts';
import { tracing } from './tracing.ts';

export const sections: readonly Section[] = [
  ...[calls, rates, uniqueHeaders, chunks, large, tracing, tls],
  ...[memory, readiness, endpoints, streams, headers, policies],
];

/** With --quick: a row of each kind, so that it ends within three minutes. */
export const quickSections: readonly Section[] = [
  ...[calls, rates, uniqueHeaders, chunks, large, readiness, tls, tracing, memory, endpoints],
];
