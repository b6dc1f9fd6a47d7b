/** Reads request bodies within bounds of memory and time. */
import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from './api-error.ts';
import { BodyGarbage } from './body-garbage.ts';

/** The bound on the bodies of all unanswered requests: as text and as message they take three times as much memory. */
const maxHeldBytes = 40 * 1024 * 1024;
/** The part reserved for bodies up to `smallBytes`, so that they do not wait behind large ones. */
const smallRoomBytes = 12 * 1024 * 1024;
/** A task with a long text and no files. */
const smallBytes = 64 * 1024;
/** The share of the room for large bodies that one address may use. */
const addressShare = 0.875;
/** Smaller pieces are copied together, because each would cost more than it holds. */
const smallPieceBytes = 2048;
const blockBytes = 16 * 1024;
/** The time limit of a body: this, plus a second for each `leastBytesPerSecond`. A mobile phone sends faster. */
const leastBodyMs = 10_000;
const leastBytesPerSecond = 256 * 1024;
const retryAfterS = 1;

/** The room for one body, from before we read it until the answer is sent. */
interface Claim {
  readonly address: string;
  bytes: number;
}

/** The memory that bodies share. It admits a body as a whole, so that no body waits for another halfway. */
class BodyRoom {
  private small = 0;
  private large = 0;
  private readonly garbage = new BodyGarbage();
  /** The bytes of large bodies, by address. */
  private readonly byAddress = new Map<string, number>();

  get heldBytes(): number {
    return this.small + this.large;
  }

  /** @throws ApiError if there is no room now */
  take(claim: Claim, bytes: number): void {
    this.forget(claim);
    if (bytes <= smallBytes) {
      if (this.small + bytes > smallRoomBytes) throw noRoom();
      this.small += bytes;
    } else {
      const largeRoom = maxHeldBytes - smallRoomBytes;
      const own = this.byAddress.get(claim.address) ?? 0;
      if (this.large + bytes > largeRoom || own + bytes > largeRoom * addressShare) throw noRoom();
      this.large += bytes;
      this.byAddress.set(claim.address, own + bytes);
    }
    claim.bytes = bytes;
  }

  /** The answer was sent, or the client left. */
  release(claim: Claim): void {
    if (claim.bytes > smallBytes) this.garbage.add(claim.bytes);
    this.forget(claim);
  }

  private forget(claim: Claim): void {
    const { bytes, address } = claim;
    claim.bytes = 0;
    if (bytes <= smallBytes) {
      this.small -= bytes;
      return;
    }
    this.large -= bytes;
    const left = (this.byAddress.get(address) ?? 0) - bytes;
    if (left > 0) this.byAddress.set(address, left);
    else this.byAddress.delete(address);
  }
}

function noRoom(): ApiError {
  const message = 'the bodies of other requests use all the memory for them; try again';
  return new ApiError(503, 'UNAVAILABLE', message, { reason: 'overloaded', retryAfterS });
}

/** Makes fastify read the JSON bodies of all requests within these bounds of time and memory. */
export function boundBodies(app: FastifyInstance, maxBytes: number, room = new BodyRoom()): void {
  const claims = new WeakMap<IncomingMessage, Claim>();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addHook('onRequest', async ({ raw, ip }, reply) => {
    const claim: Claim = { address: ip, bytes: 0 };
    claims.set(raw, claim);
    reply.raw.once('close', () => room.release(claim));
  });
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', (request: FastifyRequest, payload: IncomingMessage, done) => {
    const claim = claims.get(request.raw) ?? { address: '', bytes: 0 };
    readBody(payload, maxBytes, (bytes) => room.take(claim, bytes)).then(
      (text) => parseJson(request, text, done),
      (error: Error) => done(error),
    );
  });
}

/** The pieces of a body. A client may send one byte at a time. */
class Parts {
  private readonly length: number | undefined;
  private parts: Buffer[] = [];
  /** The buffer for small pieces; a body with a length has one for all of them. */
  private block: Buffer | undefined;
  private used = 0;

  constructor(length: number | undefined) {
    this.length = length;
  }

  push(part: Buffer): void {
    if (this.length === undefined) {
      const isSmall = part.length < smallPieceBytes;
      if (!isSmall || this.used + part.length > blockBytes) this.closeBlock();
      if (!isSmall) {
        this.parts.push(part);
        return;
      }
    }
    this.block ??= Buffer.allocUnsafeSlow(this.length ?? blockBytes);
    part.copy(this.block, this.used);
    this.used += part.length;
  }

  toText(): string {
    if (this.length !== undefined) return this.block?.toString('utf8', 0, this.used) ?? '';
    this.closeBlock();
    return Buffer.concat(this.parts).toString('utf8');
  }

  drop(): void {
    this.parts = [];
    this.block = undefined;
    this.used = 0;
  }

  private closeBlock(): void {
    if (this.block === undefined) return;
    this.parts.push(this.block.subarray(0, this.used));
    this.block = undefined;
    this.used = 0;
  }
}

/**
 * @param take reserves room for this many bytes in total, and throws if there is none
 * @throws ApiError for a body that is too large or too slow
 */
function readBody(
  payload: IncomingMessage,
  maxBytes: number,
  take: (bytes: number) => void,
): Promise<string> {
  const declared = payload.headers['content-length'];
  const length = declared === undefined ? undefined : Number(declared);
  return new Promise((resolve, reject) => {
    const parts = new Parts(length);
    let bytes = 0;
    let taken = 0;
    const timer = setTimeout(
      () => fail(new ApiError(408, 'DEADLINE_EXCEEDED', 'the body of the request did not arrive in time')),
      leastBodyMs + ((length ?? maxBytes) / leastBytesPerSecond) * 1000,
    );
    const end = (): void => {
      clearTimeout(timer);
      payload.off('data', onData).off('end', onEnd);
      // Discard the rest until the connection closes with its answer.
      payload.resume();
    };
    const fail = (error: Error): void => {
      end();
      parts.drop();
      reject(error);
    };
    const ask = (forBytes: number): boolean => {
      try {
        if (forBytes > maxBytes) throw new ApiError(413, 'RESOURCE_EXHAUSTED', 'Request body is too large');
        take(forBytes);
        taken = forBytes;
        return true;
      } catch (error) {
        fail(error as Error);
        return false;
      }
    };
    const onData = (part: Buffer): void => {
      bytes += part.length;
      // A body without a length that is no longer small may have the largest size.
      if (bytes > taken && !ask(bytes > smallBytes ? Math.max(bytes, maxBytes) : smallBytes)) return;
      parts.push(part);
    };
    const onEnd = (): void => {
      end();
      // The body is smaller, so the rest of the room is free for others.
      if (bytes < taken) take(bytes);
      const text = parts.toText();
      parts.drop();
      resolve(text);
    };
    const broken = (): void => {
      if (!payload.complete)
        fail(
          new ApiError(400, 'INVALID_ARGUMENT', 'the client closed the request before its body was complete'),
        );
    };
    // A disconnect of the client is no failure of ours.
    payload.on('error', broken);
    payload.once('close', broken);
    if (length !== undefined && !ask(length)) return;
    payload.on('data', onData);
    payload.once('end', onEnd);
  });
}
