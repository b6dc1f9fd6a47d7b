import type { IdSource } from '../../telemetry/ids.ts';
import {
  type Attributes,
  NO_ATTRIBUTES,
  type Span,
  type SpanEvent,
  type SpanShape,
} from '../../telemetry/tracing/span.ts';
import type { ModelNames } from './model-names.ts';
import type { SpanShapes } from './shapes.ts';

/** What recorded calls share: `Tracer` is it. */
export interface SpanRecorder {
  readonly shapes: SpanShapes;
  readonly ids: IdSource;
  readonly models: ModelNames;
  /** Written anew for each attempt. */
  readonly attemptSpan: AttemptSpan;
  write(span: Span): void;
}

/** Filled in for each attempt that has ended: a sink keeps nothing of what it is given. */
export class AttemptSpan implements Span {
  shape!: SpanShape;
  traceId = '';
  spanHigh = 0;
  spanLow = 0;
  parentHigh = 0;
  parentLow = 0;
  readonly parentIsRemote = false;
  traceState = '';
  traceFlags = 0;
  startedAtMs = 0;
  endedAtMs = 0;
  attributes: Attributes = NO_ATTRIBUTES;
  events: SpanEvent[] | undefined = undefined;
  readonly droppedEvents = 0;
  readonly links = undefined;
  failed = false;
  readonly statusMessage = '';
}
