/** Reads the messages of a stream no further ahead of their reader than some bytes. */
import { type ClientReadableStream, InterceptingCall, type Interceptor } from '@grpc/grpc-js';

/** The most that waits for a reader, but for one message that is larger, and another one behind it. */
const AHEAD_MAX_BYTES = 262_144;

/**
 * grpc-js reads 16 messages ahead of a reader, and a message may have 10 MiB: so one reader who does not read could hold 160 MiB.
 * Here they wait in the server when they are large: behind one that waits, the windows of HTTP/2 are shut. The end waits, too,
 * until all before it was taken: an error would make grpc-js drop them.
 */
class Ahead<Message> {
  private readonly bytesOf: (message: Message) => number;
  private messages = 0;
  private bytes = 0;
  private received: { readonly message: Message; readonly handOn: () => void } | undefined;
  private end: (() => void) | undefined;

  constructor(bytesOf: (message: Message) => number) {
    this.bytesOf = bytesOf;
  }

  readonly interceptor: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) =>
        next(metadata, {
          onReceiveMessage: (message: Message, handOn: (message: Message) => void) => {
            this.received = { message, handOn: () => handOn(message) };
            this.goOn();
          },
          onReceiveStatus: (status, handOn) => {
            this.end = () => handOn(status);
            this.goOn();
          },
        }),
    });

  /** The reader has finished with this one. */
  take(message: Message): void {
    this.messages--;
    this.bytes -= this.bytesOf(message);
    this.goOn();
  }

  private goOn(): void {
    const { end, received } = this;
    if (received === undefined) {
      if (this.messages === 0) end?.();
    } else if (this.bytes < AHEAD_MAX_BYTES) {
      this.messages++;
      this.bytes += this.bytesOf(received.message);
      // First, because the end may follow at once.
      this.received = undefined;
      received.handOn();
    }
  }
}

/**
 * Yields the messages of a call; a slow reader slows the server down.
 *
 * @param open begins the call with these interceptors
 * @param bytesOf what a message takes, about
 * @param signal cancels the call
 */
export async function* readOnDemand<Message>(
  open: (interceptors: Interceptor[]) => ClientReadableStream<Message>,
  bytesOf: (message: Message) => number,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  const ahead = new Ahead(bytesOf);
  const call = open([ahead.interceptor]);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  try {
    for await (const message of call as AsyncIterable<Message>) {
      yield message;
      ahead.take(message);
    }
  } finally {
    signal.removeEventListener('abort', cancel);
    // Leaving the loop early does not end a grpc-js call; a finished call ignores this.
    call.cancel();
  }
}
