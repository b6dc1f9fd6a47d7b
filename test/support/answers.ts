// Ways in which a replica answers a call, for tests of what is made of them.
import type { ServerHttp2Stream } from 'node:http2';
import type { Test } from 'tap';
import type { TestClock } from '../../scripts/harness/test-clock.ts';
import { grpcFrame, type SeenCall, startUpstream, type Upstream } from './upstream.ts';

/** What a replica does with a call whose request is complete. */
export type Answer = (stream: ServerHttp2Stream, call: SeenCall) => void;

type Fields = Readonly<Record<string, string>>;

const head = { ':status': 200, 'content-type': 'application/grpc' } as const;

/** One message and then this status, in trailers. */
export function messageThen(
  status: number,
  { message = 'answer' as Buffer | string, fields = {} as Fields } = {},
): Answer {
  return (stream) => {
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(status), ...fields }));
    stream.end(grpcFrame(message));
  };
}

export const ok: Answer = messageThen(0);

/** The status in the only HEADERS frame. */
export function trailersOnly(status: number, fields: Fields = {}): Answer {
  return (stream) =>
    stream.respond({ ...head, 'grpc-status': String(status), ...fields }, { endStream: true });
}

/** A head at once, no message, and the status in trailers. */
export function headThen(status: number): Answer {
  return (stream) => {
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(status) }));
    stream.end();
  };
}

/** A page of a web server or a middleware, in place of gRPC. */
export function page(httpStatus: number): Answer {
  return (stream) => {
    stream.respond({ ':status': httpStatus, 'content-type': 'text/plain' });
    stream.end('not gRPC');
  };
}

/** An `agent.TaskResponse` with this status, which is its field 3, and OK. */
export function taskStatus(status: number): Answer {
  return messageThen(0, { message: Buffer.from([0x18, status]) });
}

/** Takes the call and says nothing. */
export const silence: Answer = () => {};

/** Once so many milliseconds have passed, by the test's clock where it has one. */
export function later(delayMs: number, answer: Answer, clock?: TestClock): Answer {
  return (stream, call) => {
    const run = (): void => {
      if (!stream.destroyed) answer(stream, call);
    };
    if (clock !== undefined) clock.after(delayMs, run);
    else stream.on('close', clearTimeout.bind(undefined, setTimeout(run, delayMs)));
  };
}

export interface Replica extends Upstream {
  /** How it answers from now on. */
  answer: Answer;
}

/** A replica that can change its mind. */
export async function startReplica(t: Pick<Test, 'teardown'>, answer: Answer): Promise<Replica> {
  const replica: { answer: Answer } = { answer };
  const upstream = await startUpstream(t, {
    sidecar: true,
    onCall: (call) => {
      call.stream.on('end', () => {
        if (!call.stream.destroyed) replica.answer(call.stream, call);
      });
    },
  });
  return Object.assign(replica, upstream);
}
