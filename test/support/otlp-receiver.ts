// A collector for tests: it listens for OTLP over HTTP, keeps the spans that come, and misbehaves when it is told to.
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import * as grpc from '@grpc/grpc-js';
import type { Test } from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { type ReceivedSpan, readJson, readProtobuf } from './otlp.ts';

interface OtlpRequest {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly spans: number;
}

export interface OtlpReceiver {
  readonly port: number;
  /** What `OTEL_EXPORTER_OTLP_ENDPOINT` gets. */
  readonly url: string;
  readonly spans: ReceivedSpan[];
  readonly requests: OtlpRequest[];
  /** How requests are answered; put back by `undefined`. */
  respond: ((response: ServerResponse, spans: number) => void) | undefined;
  /** Waits until there are spans for which `check` holds, and gives all that have come. */
  until(what: string, check: (spans: readonly ReceivedSpan[]) => boolean): Promise<readonly ReceivedSpan[]>;
  /** Ends it as a process does that is killed. */
  stop(): Promise<void>;
}

export async function startOtlpReceiver(
  t: Pick<Test, 'teardown'>,
  { port = 0 }: { port?: number } = {},
): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const requests: OtlpRequest[] = [];
  const receiver = { respond: undefined as OtlpReceiver['respond'] };
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => {});
    request.on('end', () => {
      const sent = Buffer.concat(chunks);
      const body = request.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
      const json = request.headers['content-type'] === 'application/json';
      const received = json ? readJson(body.toString()) : readProtobuf(body);
      requests.push({ path: request.url ?? '', headers: request.headers, spans: received.length });
      if (receiver.respond !== undefined) {
        receiver.respond(response, received.length);
        return;
      }
      spans.push(...received);
      response.setHeader('content-type', json ? 'application/json' : 'application/x-protobuf');
      response.end(json ? '{}' : undefined);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  t.teardown(stop);
  const bound = (server.address() as AddressInfo).port;
  return Object.assign(receiver, {
    port: bound,
    url: `http://127.0.0.1:${bound}`,
    spans,
    requests,
    stop,
    until: async (what: string, check: (spans: readonly ReceivedSpan[]) => boolean) => {
      try {
        await waitUntil(what, () => check(spans));
      } catch (error) {
        throw new Error(`${(error as Error).message}; the spans are:\n${drawTrees(spans)}`);
      }
      return spans;
    },
  });
}

/** How a request is refused, with `google.rpc.Status` as details; undefined: it is not. */
type Refuse = () => { code: number; details: Buffer } | undefined;

/** The same for gRPC. */
export async function startGrpcOtlpReceiver(
  t: Pick<Test, 'teardown'>,
): Promise<Pick<OtlpReceiver, 'url' | 'spans' | 'until'> & { refuse: Refuse | undefined }> {
  const receiver = { refuse: undefined as Refuse | undefined };
  const spans: ReceivedSpan[] = [];
  const identity = (bytes: Buffer): Buffer => bytes;
  const definition: grpc.MethodDefinition<Buffer, Buffer> = {
    path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    requestStream: false,
    responseStream: false,
    requestSerialize: identity,
    requestDeserialize: identity,
    responseSerialize: identity,
    responseDeserialize: identity,
  };
  const take: grpc.handleUnaryCall<Buffer, Buffer> = ({ request }, callback) => {
    const refusal = receiver.refuse?.();
    if (refusal !== undefined) {
      const metadata = new grpc.Metadata();
      metadata.set('grpc-status-details-bin', refusal.details);
      callback({ code: refusal.code, metadata });
      return;
    }
    spans.push(...readProtobuf(request));
    callback(null, Buffer.alloc(0));
  };
  const server = new grpc.Server();
  server.addService({ export: definition }, { export: take });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.teardown(() => server.forceShutdown());
  const until: OtlpReceiver['until'] = async (what, check) => {
    await waitUntil(what, () => check(spans));
    return spans;
  };
  return Object.assign(receiver, { url: `http://127.0.0.1:${port}`, spans, until });
}

const KINDS = ['', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'];

/** Traces as text, a span a line, children below their parents and moved to the right. */
export function drawTrees(spans: readonly ReceivedSpan[]): string {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const lines: string[] = [];
  const draw = (span: ReceivedSpan, depth: number): void => {
    lines.push(`${'  '.repeat(depth)}${span.resource['service.name']}: ${KINDS[span.kind]} ${span.name}`);
    const children = spans.filter(({ parentSpanId }) => parentSpanId === span.spanId);
    for (const child of children.sort((a, b) => Number(a.startNano - b.startNano))) draw(child, depth + 1);
  };
  const roots = spans.filter(({ parentSpanId }) => !ids.has(parentSpanId));
  for (const root of roots) draw(root, 0);
  return lines.join('\n');
}
