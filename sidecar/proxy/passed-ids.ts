/**
 * Reads the ids that applications pass on from the calls they serve to the calls they make, besides W3C's
 * `traceparent`. They show which inbound call an agent's call belongs to. Meshes ask applications to pass on most of
 * these headers.
 */

/** Longer ids are ignored. */
const MAX_ID_LENGTH = 256;

/** Headers that contain a trace id, and the pattern that extracts it. */
const TRACE_HEADERS: Readonly<Record<string, RegExp>> = {
  // B3's single form: id-span-sampled-parent, or the decision alone.
  b3: /^([\da-f]{16,32})-/i,
  'x-b3-traceid': /^([\da-f]{16,32})$/i,
  'x-cloud-trace-context': /^([\da-f]{32})(?:$|[/;])/i,
  // Jaeger's header, whose colons some senders encode.
  'uber-trace-id': /^([\da-f]{1,32})(?::|%3a)/i,
  'x-amzn-trace-id': /(?:^|;)Root=1-([\da-f]{8}-[\da-f]{24})/i,
};

/** The passed ids of one request; '' for each that it does not carry. */
export class PassedIds {
  /** Several fields in order, joined by commas, without empty ones; undefined without such a field. */
  baggage: string | undefined = undefined;
  requestId = '';
  taskId = '';
  correlationId = '';
  /** In the form of `traceparent`. */
  readonly traceIds: string[] = [];

  /** Reads a field of a request; `name` is one of {@link PASSED_HEADERS}. */
  read(name: string, value: string): void {
    if (name === 'baggage') this.readBaggage(value);
    else if (value.length > MAX_ID_LENGTH) return;
    else if (name === 'x-request-id') this.requestId = value;
    else if (name === 'x-task-id') this.taskId = value;
    else if (name === 'x-correlation-id') this.correlationId = value;
    else this.readTraceId(TRACE_HEADERS[name]?.exec(value)?.[1]);
  }

  private readBaggage(value: string): void {
    const before = this.baggage ?? '';
    this.baggage = before === '' || value === '' ? before + value : `${before},${value}`;
  }

  private readTraceId(text: string | undefined): void {
    const id = text?.replace('-', '').toLowerCase().padStart(32, '0');
    if (id !== undefined && !/^0+$/.test(id) && !this.traceIds.includes(id)) this.traceIds.push(id);
  }
}

export const PASSED_HEADERS: readonly string[] = [
  'baggage',
  'x-request-id',
  'x-task-id',
  'x-correlation-id',
  ...Object.keys(TRACE_HEADERS),
];
