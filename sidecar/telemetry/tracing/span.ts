/** What a span is made of when it is written down. OpenTelemetry's data model, in the smallest shape that holds it. */

import { RANDOM, SAMPLED } from '../trace-context.ts';

/** As OTLP numbers them. */
export const SpanKind = { INTERNAL: 1, SERVER: 2, CLIENT: 3 } as const;
export type SpanKind = (typeof SpanKind)[keyof typeof SpanKind];

export type AttributeValue = string | number | boolean | readonly string[];

/** key0, value0, key1, value1, …: no object a pair. Whole numbers are written as integers. */
export type Attributes = readonly AttributeValue[];

export const NO_ATTRIBUTES: Attributes = [];

/** What all spans of one kind of call have in common. Made once, and encoded once. */
export class SpanShape {
  readonly name: string;
  readonly kind: SpanKind;
  readonly attributes: Attributes;
  /** A slot for an encoder: the shape in its format. */
  encoded: unknown = undefined;

  constructor(name: string, kind: SpanKind, attributes: Attributes) {
    this.name = name;
    this.kind = kind;
    this.attributes = attributes;
  }
}

export interface SpanEvent {
  readonly name: string;
  /** By the clock of `Span.startedAtMs`. */
  readonly atMs: number;
  readonly attributes: Attributes;
}

/** Another trace, or another span of the same one, that belongs to it. */
export interface SpanLink {
  readonly traceId: string;
  readonly spanId: string;
}

/** A span that has ended. An encoder reads it at once and keeps nothing of it. */
export interface Span {
  readonly shape: SpanShape;
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** Its two halves of 32 bits. */
  readonly spanHigh: number;
  readonly spanLow: number;
  /** Both 0 for the first span of a trace. */
  readonly parentHigh: number;
  readonly parentLow: number;
  /** The parent is of another process. */
  readonly parentIsRemote: boolean;
  readonly traceState: string;
  /** Those of its `traceparent`: `SAMPLED`, and perhaps `RANDOM`. */
  readonly traceFlags: number;
  /** Milliseconds by `performance.now()`. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** Beyond those of the shape. */
  readonly attributes: Attributes;
  readonly events: readonly SpanEvent[] | undefined;
  readonly droppedEvents: number;
  readonly links: readonly SpanLink[] | undefined;
  readonly failed: boolean;
  /** What a failed one says of itself; '' for nothing. */
  readonly statusMessage: string;
}

/** Collects spans, in the form they are sent in. */
export interface SpanEncoder {
  /** Spans since `take`. */
  readonly count: number;
  readonly bytes: number;
  add(span: Span): void;
  /** The body of one export request, with all spans since the last one. */
  take(): Uint8Array;
  /** A body that has been sent may be written over. */
  recycle(body: Uint8Array): void;
}

/** Who sends the spans. */
export interface SpanSource {
  readonly resource: Attributes;
  readonly scopeName: string;
  readonly scopeVersion: string;
  /** Adds to `performance.now()` what makes it milliseconds since 1970. */
  readonly epochOffsetMs: () => number;
}

/** The schema that attribute names are of. */
export const SCHEMA_URL = 'https://opentelemetry.io/schemas/1.45.0';

/** Longer values are cut: callers choose some of them. */
export const MAX_VALUE_CHARS = 1024;

/** OTLP's `Span.flags`: W3C's, whether the parent is remote is known (0x100), and whether it is (0x200). */
export function spanFlags({ traceFlags, parentIsRemote }: Span): number {
  return (traceFlags & (SAMPLED | RANDOM)) | (parentIsRemote ? 0x300 : 0x100);
}
