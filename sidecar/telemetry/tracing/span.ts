/** The parts of a span for the encoders: OpenTelemetry's data model, in the smallest form that holds it. */

import { RANDOM, SAMPLED } from '../trace-context.ts';

/** As OTLP numbers them. */
export const SpanKind = { INTERNAL: 1, SERVER: 2, CLIENT: 3 } as const;
export type SpanKind = (typeof SpanKind)[keyof typeof SpanKind];

export type AttributeValue = string | number | boolean | readonly string[];

/** key0, value0, key1, value1, …: no object a pair. Encoders write whole numbers as integers. */
export type Attributes = readonly AttributeValue[];

export const NO_ATTRIBUTES: Attributes = [];

/** The common part of all spans of one kind of call. It is created once and encoded once. */
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

/** A related span, of another trace or of the same one. */
export interface SpanLink {
  readonly traceId: string;
  readonly spanId: string;
}

/** An ended span. An encoder reads it at once and keeps no reference to it. */
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
  /** Whether the parent belongs to another process. */
  readonly parentIsRemote: boolean;
  readonly traceState: string;
  /** The flags of its `traceparent`: `SAMPLED`, and perhaps `RANDOM`. */
  readonly traceFlags: number;
  /** Milliseconds by `performance.now()`. */
  readonly startedAtMs: number;
  readonly endedAtMs: number;
  /** The attributes besides those of the shape. */
  readonly attributes: Attributes;
  readonly events: readonly SpanEvent[] | undefined;
  readonly droppedEvents: number;
  readonly links: readonly SpanLink[] | undefined;
  readonly failed: boolean;
  /** The message of a failed span; '' for none. */
  readonly statusMessage: string;
}

/** Collects spans, encoded for sending. */
export interface SpanEncoder {
  /** Spans since `take`. */
  readonly count: number;
  readonly bytes: number;
  add(span: Span): void;
  /** Returns the body of one export request, with all spans since the last `take`. */
  take(): Uint8Array;
  /** Returns a sent body, which the encoder may overwrite. */
  recycle(body: Uint8Array): void;
}

/** The origin of the spans. */
export interface SpanSource {
  readonly resource: Attributes;
  readonly scopeName: string;
  readonly scopeVersion: string;
  /** The difference between milliseconds since 1970 and `performance.now()`. */
  readonly epochOffsetMs: () => number;
}

/** The schema of the attribute names. */
export const SCHEMA_URL = 'https://opentelemetry.io/schemas/1.45.0';

/** Longer values are cut: callers choose some of them. */
export const MAX_VALUE_CHARS = 1024;

/** OTLP's `Span.flags`: W3C's flags, whether we know that the parent is remote (0x100), and whether it is (0x200). */
export function spanFlags({ traceFlags, parentIsRemote }: Span): number {
  return (traceFlags & (SAMPLED | RANDOM)) | (parentIsRemote ? 0x300 : 0x100);
}
