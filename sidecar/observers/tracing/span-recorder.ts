/** The parts that all recorded calls share. */
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

/** The state that recorded calls share; `Tracer` implements it. */
export interface SpanRecorder {
  readonly shapes: SpanShapes;
  readonly ids: IdSource;
  readonly models: ModelNames;
  /** Reused for each attempt. */
  readonly attemptSpan: AttemptSpan;
  write(span: Span): void;
}

/** The span of an ended attempt, refilled for each one: a sink must keep no reference to it. */
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
