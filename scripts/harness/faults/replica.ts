// A replica of an agent with scripted faults, as a process of its own:
//   node replica.ts NAME HOST PORT CONTROL_PORT RECORD_FILE
// It serves agent.AgentService and grpc.health.v1 on node:http2, because a gRPC library would prevent its faults. The
// control port accepts a Behaviour, or a part of one, as JSON by POST. SIGTERM ends the process when its calls are
// done.
import { createServer as createControl } from 'node:http';
import { constants, createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { stringField, varintField } from '../../../sidecar/task/protobuf.ts';
import {
  PROCESS_TASK_PATH,
  readTaskKey,
  STREAM_PROCESS_PATH,
  TaskStatus,
} from '../../../sidecar/task/task-message.ts';
import { type Behaviour, type Fault, USUAL } from './behaviour.ts';
import { append, type RunEvent } from './run-record.ts';
import { WorkQueue } from './work-queue.ts';

const [, , name = '', host = '', port = '', controlPort = '', recordFile = ''] = process.argv;

let behaviour: Behaviour = USUAL;
let behaviourSinceMs = 0;
let runs = 0;
const queue = new WorkQueue();

const GRPC = { ':status': 200, 'content-type': 'application/grpc' };
const SERVING = Buffer.from([0, 0, 0, 0, 2, 8, 1]);

/** A message of these fields, with gRPC's prefix. */
function frame(...fields: Buffer[]): Buffer {
  const message = Buffer.concat(fields);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function currentFault(): Fault {
  const { fault, flapMs } = behaviour;
  if (flapMs > 0 && Math.floor((Date.now() - behaviourSinceMs) / flapMs) % 2 === 1) return 'none';
  return fault;
}

/** One execution of a task; its output is dropped once its stream is closed. */
class Execution {
  readonly stream: ServerHttp2Stream;
  readonly streaming: boolean;
  readonly task: string;
  readonly signal: AbortSignal;
  private readonly runNumber = runs++;
  private ended = false;

  constructor(stream: ServerHttp2Stream, streaming: boolean, task: string) {
    this.stream = stream;
    this.streaming = streaming;
    this.task = task;
    const controller = new AbortController();
    this.signal = controller.signal;
    stream.on('close', () => {
      this.end('aborted');
      controller.abort();
    });
    this.record('began');
  }

  private record(event: RunEvent['event']): void {
    append(recordFile, { atMs: Date.now(), pid: process.pid, run: this.runNumber, task: this.task, event });
  }

  private end(event: RunEvent['event']): void {
    if (this.ended) return;
    this.ended = true;
    this.record(event);
  }

  async run(headers: Record<string, string>): Promise<void> {
    const { serviceMs, slowdown, nextPort } = behaviour;
    await queue.work(serviceMs * slowdown, behaviour.workers, this.signal);
    if (this.signal.aborted) return;
    const fault = currentFault();
    if (fault === 'hang') return;
    if (fault === 'trailers_only') return this.fail(behaviour.code);
    if (nextPort > 0) {
      // Loaded on demand: a gRPC client takes longer to load than everything else.
      const { callNext } = await import('./next-agent.ts');
      const code = await callNext(nextPort, this.task, this.streaming, headers, this.signal);
      if (this.signal.aborted) return;
      if (code !== 0) return this.fail(code);
    }
    if (this.streaming) await this.sendStream(fault);
    else this.answer(fault);
  }

  private fail(code: number): void {
    this.end('failed');
    const status = { 'grpc-status': `${code}`, 'grpc-message': `${name} fails by configuration` };
    if (this.stream.headersSent) {
      this.stream.on('wantTrailers', () => this.stream.sendTrailers(status));
      this.stream.end();
    } else this.stream.respond({ ...GRPC, ...status }, { endStream: true });
  }

  private answer(fault: Fault): void {
    const { stream } = this;
    stream.respond(GRPC, { waitForTrailers: true });
    if (fault === 'trailers') this.fail(behaviour.code);
    else if (fault === 'reset') this.reset();
    else this.succeed(fault);
  }

  private succeed(fault: Fault): void {
    const { stream } = this;
    const failed = fault === 'failed_status';
    this.end(failed ? 'failed' : 'ok');
    const status = failed ? TaskStatus.FAILED : TaskStatus.SUCCESS;
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(frame(stringField(1, this.task), stringField(2, name), varintField(3, status)));
  }

  private async sendStream(fault: Fault): Promise<void> {
    const { stream } = this;
    const { chunks, chunkEveryMs, slowdown } = behaviour;
    stream.respond(GRPC, { waitForTrailers: true });
    for (let number = 1; number <= chunks; number++) {
      if (this.signal.aborted) return;
      const isLast = number === chunks;
      stream.write(frame(stringField(1, name), varintField(2, isLast ? 1 : 0)));
      if (fault === 'trailers') return this.fail(behaviour.code);
      // Otherwise the reset would overtake the message in this process.
      if (fault === 'reset') return void setTimeout(() => this.reset(), 5);
      if (!isLast) await new Promise((resolve) => setTimeout(resolve, chunkEveryMs * slowdown));
    }
    if (this.signal.aborted) return;
    this.end('ok');
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end();
  }

  private reset(): void {
    this.end('failed');
    this.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}

const sessions = new Set<ServerHttp2Session>();
const server = createServer();
server.on('session', (session) => {
  sessions.add(session);
  session.on('error', () => {});
  session.on('close', () => sessions.delete(session));
});
server.on('stream', (stream, headers) => {
  const parts: Buffer[] = [];
  stream.on('error', () => {});
  stream.on('data', (part: Buffer) => parts.push(part));
  stream.on('end', () => {
    if (stream.aborted || stream.destroyed) return;
    const path = headers[':path'];
    if (path === '/grpc.health.v1.Health/Check') {
      if (currentFault() === 'hang') return;
      stream.respond(GRPC, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(SERVING);
    } else if (path === PROCESS_TASK_PATH || path === STREAM_PROCESS_PATH) {
      const body = Buffer.concat(parts);
      const { taskId } = readTaskKey(body, 5, body.length);
      const forwarded = Object.fromEntries(
        ['traceparent', 'grpc-timeout'].flatMap((name) =>
          headers[name] === undefined ? [] : [[name, String(headers[name])]],
        ),
      );
      void new Execution(stream, path === STREAM_PROCESS_PATH, taskId).run(forwarded);
    } else {
      stream.respond({ ...GRPC, 'grpc-status': '12' }, { endStream: true });
    }
  });
});
server.listen(Number(port), host);

const control = createControl((request, response) => {
  let text = '';
  request.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  request.on('end', () => {
    behaviour = { ...behaviour, ...(JSON.parse(text || '{}') as Partial<Behaviour>) };
    behaviourSinceMs = Date.now();
    response.end(JSON.stringify(behaviour));
  });
});
control.listen(Number(controlPort), '127.0.0.1');

process.on('SIGTERM', () => {
  server.close();
  control.close();
  for (const session of sessions) session.close();
  const wait = setInterval(() => {
    if (sessions.size === 0) process.exit(0);
  }, 10);
  wait.ref();
});

// The starter may have ended without a signal to this process.
const parent = process.ppid;
setInterval(() => {
  if (process.ppid !== parent) process.exit(1);
}, 1_000).unref();
