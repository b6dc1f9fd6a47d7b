/**
 * Ids that applications pass on from the calls they serve to the calls they make, besides W3C's `traceparent`: by them an
 * agent's call is known to belong to an inbound one. Meshes ask applications for most of these headers.
 */

/** Longer ids are nobody's. */
const MAX_ID_LENGTH = 256;

/** Headers that have a trace's id in them, and how it is found there. */
const TRACE_HEADERS: Readonly<Record<string, RegExp>> = {
  // B3's single form: id-span-sampled-parent, or the decision alone.
  b3: /^([\da-f]{16,32})-/i,
  'x-b3-traceid': /^([\da-f]{16,32})$/i,
  'x-cloud-trace-context': /^([\da-f]{32})(?:$|[/;])/i,
  // Jaeger's, whose colons some senders encode.
  'uber-trace-id': /^([\da-f]{1,32})(?::|%3a)/i,
  'x-amzn-trace-id': /(?:^|;)Root=1-([\da-f]{8}-[\da-f]{24})/i,
};

/** Of one request; '' for what it does not carry. */
export class PassedIds {
  /** Several in their order, joined by commas, without those that are empty; undefined where there is no such field. */
  baggage: string | undefined = undefined;
  requestId = '';
  taskId = '';
  correlationId = '';
  /** As `traceparent` would write them. */
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
