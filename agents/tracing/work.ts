/** A piece of work of this process, in the trace of its request. */
export interface Work {
  /** Trace context for the calls that it makes, in the formats of `OTEL_PROPAGATORS`: `traceparent` by default. */
  readonly headers: Readonly<Record<string, string>>;
  end(attributes?: WorkAttributes, errorType?: string): void;
}

type WorkAttributes = Record<string, string | number | boolean>;

export interface WorkTracing {
  begin(
    name: string,
    kind: 'server' | 'internal',
    incoming: Readonly<Record<string, string>>,
    attributes: WorkAttributes,
  ): Work;
  stop(): Promise<void>;
}
