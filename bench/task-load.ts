// Sends tasks as fast as they are answered, each with an id of its own, and prints what it counted as JSON:
//
//     node bench/task-load.ts PORT CONNECTIONS STREAMS SECONDS
//
// h2load sends the same body each time; to a sidecar that is one task, which it runs once. Frames are made once and
// their ids written into them, so that one core makes more calls than any proxy takes.
import { connect, type Socket } from 'node:net';

const [port, connections, streams, seconds] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number,
];
const PATH = '/agent.AgentService/ProcessTask';
const AUTHORITY = 'agent';
const ID_DIGITS = 12;
const HEADER_BYTES = 9;
const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;
const PING = 6;
const END_STREAM = 1;
const ACK = 1;

/** A literal with incremental indexing and a name of its own, without Huffman coding (RFC 7541 §6.2.1). */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x40, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

const FIRST_BLOCK = Buffer.concat([
  Buffer.from([0x83, 0x86]),
  literal(':path', PATH),
  literal(':authority', AUTHORITY),
  literal('content-type', 'application/grpc'),
  literal('te', 'trailers'),
]);
/** The same by its places in the dynamic table. */
const NEXT_BLOCK = Buffer.from([0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** `agent.TaskRequest` with task_id, agent_type and input, behind gRPC's prefix. */
function taskMessage(): Buffer {
  const text = (field: number, value: string): Buffer =>
    Buffer.concat([Buffer.from([(field << 3) | 2, value.length]), Buffer.from(value)]);
  const id = '0'.repeat(ID_DIGITS);
  const message = Buffer.concat([text(1, id), text(3, 'research'), text(4, 'y'.repeat(100))]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

const message = taskMessage();
/** Where the digits of the id begin within the message. */
const ID_AT = 5 + 2;

let calls = 0;
let failed = 0;
let counting = false;
let nextTask = process.pid * 1_000_000;

function writeId(buffer: Buffer, at: number): void {
  let left = nextTask++;
  for (let i = at + ID_DIGITS - 1; i >= at; i--) {
    buffer[i] = 0x30 + (left % 10);
    left = Math.floor(left / 10);
  }
}

class Caller {
  private readonly socket: Socket;
  private readonly request = Buffer.concat([
    frame(HEADERS, 4, 0, NEXT_BLOCK),
    frame(DATA, END_STREAM, 0, message),
  ]);
  private readonly dataAt = HEADER_BYTES + NEXT_BLOCK.length;
  private nextStream = 1;
  private partial: Buffer = Buffer.alloc(0);
  private output: Buffer[] = [];
  /** Streams whose answer's message has come. */
  private readonly answered = new Set<number>();

  constructor() {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const settings = Buffer.alloc(12);
    settings.writeUInt16BE(4, 0);
    settings.writeUInt32BE(0x7fff_ffff, 2);
    settings.writeUInt16BE(2, 6);
    const window = Buffer.alloc(4);
    window.writeUInt32BE(0x7fff_0000);
    this.output.push(
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(SETTINGS, 0, 0, settings),
      frame(8, 0, 0, window),
    );
    this.output.push(frame(HEADERS, 4, 1, FIRST_BLOCK));
    const first = frame(DATA, END_STREAM, 1, message);
    writeId(first, HEADER_BYTES + ID_AT);
    this.output.push(first);
    this.nextStream = 3;
    for (let i = 1; i < streams; i++) this.send();
    this.flush();
    this.socket.on('data', (chunk: Buffer) => this.read(chunk));
    this.socket.on('error', (error) => fail(error.message));
    this.socket.on('close', () => fail('the connection was closed'));
  }

  private send(): void {
    const request = Buffer.from(this.request);
    const id = this.nextStream;
    this.nextStream += 2;
    request.writeUInt32BE(id, 5);
    request.writeUInt32BE(id, this.dataAt + 5);
    writeId(request, this.dataAt + HEADER_BYTES + ID_AT);
    this.output.push(request);
  }

  private flush(): void {
    if (this.output.length === 0) return;
    this.socket.write(this.output.length === 1 ? this.output[0]! : Buffer.concat(this.output));
    this.output = [];
  }

  private read(chunk: Buffer): void {
    const bytes = this.partial.length === 0 ? chunk : Buffer.concat([this.partial, chunk]);
    let at = 0;
    while (at + HEADER_BYTES <= bytes.length) {
      const length = bytes.readUIntBE(at, 3);
      const end = at + HEADER_BYTES + length;
      if (end > bytes.length) break;
      this.onFrame(bytes[at + 3]!, bytes[at + 4]!, bytes.readUInt32BE(at + 5), bytes, at + HEADER_BYTES, end);
      at = end;
    }
    this.partial = bytes.subarray(at);
    this.flush();
  }

  private onFrame(
    type: number,
    flags: number,
    stream: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): void {
    if (type === SETTINGS && (flags & ACK) === 0) this.output.push(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    else if (type === PING && (flags & ACK) === 0)
      this.output.push(frame(PING, ACK, 0, bytes.subarray(start, end)));
    else if (type === DATA && end > start) this.answered.add(stream);
    if (type === 3 || type === 7)
      fail(`frame of type ${type} with ${bytes.subarray(start, end).toString('hex')}`);
    if ((type !== HEADERS && type !== DATA) || (flags & END_STREAM) === 0) return;
    // An error has no message; what was replayed, or refused, must not count as work.
    if (!this.answered.delete(stream)) failed++;
    if (counting) calls++;
    this.send();
  }
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

for (let i = 0; i < connections; i++) new Caller();
setTimeout(
  () => {
    counting = true;
    const startedMs = performance.now();
    setTimeout(() => {
      const elapsed = (performance.now() - startedMs) / 1000;
      process.stdout.write(`${JSON.stringify({ callsPerSecond: calls / elapsed, calls, failed })}\n`);
      process.exit(failed > 0 ? 1 : 0);
    }, seconds * 1000);
  },
  Math.max(1000, seconds * 333),
);
