// The agent of the known mix, which does what a call's path and text ask for, and notes for how long it had each call.
import type { Test } from 'tap';
import { messageThen, ok, trailersOnly } from '../support/answers.ts';
import { grpcFrame, type SeenCall, startUpstream, type Upstream } from '../support/upstream.ts';

export const TASK = '/agent.AgentService/ProcessTask';
export const STREAMED_TASK = '/agent.AgentService/StreamProcess';
export const path = (name: string): string => `/test.Mix/${name}`;

/** Of each task that ends well. */
export const TOKENS = 10;
const FAILED = 2;

export interface MixAgent {
  readonly upstream: Upstream;
  /** Answers for calls that are held until a test says so. */
  readonly held: (() => void)[];
  /** What it asks a model before it answers tasks whose text says so. */
  asks: (() => Promise<void>) | undefined;
  /** How long the agent had the call with this body, and forgets it; 0 for one that has not come or was not answered. */
  takeMs(body: Buffer): number;
  /** How many calls of this method have come. */
  count(method: string): number;
}

/** After so many milliseconds `Timed` answers: the number in the text. */
export const timedText = (id: string, ms: number): string => `${id} ${ms}`;

export async function startMixAgent(t: Pick<Test, 'teardown'>): Promise<MixAgent> {
  const held: (() => void)[] = [];
  const seen = new Set<string>();
  const hadMs = new Map<string, number>();
  const head = { ':status': 200, 'content-type': 'application/grpc' } as const;
  const echo = ({ stream }: SeenCall): void => {
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.on('data', (part: Buffer) => stream.write(part));
    stream.on('end', () => stream.end());
  };
  const inParts = ({ stream }: SeenCall, status: string): void => {
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
    for (let i = 0; i < 3; i++) stream.write(grpcFrame(`part ${i}`));
    stream.end();
  };
  const act = (call: SeenCall, text: string): unknown => {
    const { stream } = call;
    if (stream.destroyed) return undefined;
    const isFirst = !seen.has(text);
    seen.add(text);
    switch (String(call.headers[':path'])) {
      case TASK: {
        if (text.includes('break')) return trailersOnly(13)(stream, call);
        const status = text.includes('fail') ? FAILED : 0;
        return messageThen(0, { message: Buffer.from([0x18, status, 0x20, TOKENS]) })(stream, call);
      }
      case STREAMED_TASK:
        return inParts(call, text.includes('break') ? '13' : '0');
      case path('Status'):
        return trailersOnly(Number(text.split(' ')[1]))(stream, call);
      case path('Retried'):
        return (isFirst ? trailersOnly(14) : ok)(stream, call);
      case path('Hedged'):
        return isFirst ? undefined : ok(stream, call);
      case path('Stream'):
        return inParts(call, '0');
      case path('Silent'):
        return undefined;
      default:
        return ok(stream, call);
    }
  };
  const upstream = await startUpstream(t, {
    onCall: (call) => {
      const cameAtMs = performance.now();
      const method = String(call.headers[':path']);
      if (method === path('Bidi')) return echo(call);
      call.stream.on('end', () => {
        const text = call.body.subarray(5).toString('latin1');
        const answer = (): void => {
          hadMs.set(text, performance.now() - cameAtMs);
          act(call, text);
        };
        if (text.includes('ask')) void agent.asks!().then(answer);
        else if (text.includes('hold')) held.push(answer);
        else if (method === path('Timed')) setTimeout(answer, Number(text.split(' ')[1]));
        else answer();
      });
    },
  });
  const agent: MixAgent = {
    upstream,
    held,
    asks: undefined,
    takeMs(body) {
      const text = body.toString('latin1');
      const ms = hadMs.get(text) ?? 0;
      hadMs.delete(text);
      return ms;
    },
    count: (method) => upstream.calls.filter(({ headers }) => headers[':path'] === method).length,
  };
  return agent;
}
