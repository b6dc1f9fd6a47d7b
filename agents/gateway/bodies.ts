import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from './api-error.ts';

/** What the bodies of all requests may take together, until their answers are out: as text and as message it is three times as much. */
const maxHeldBytes = 40 * 1024 * 1024;
/** Of that, for bodies up to `smallBytes`: they do not wait behind large ones. */
const smallRoomBytes = 12 * 1024 * 1024;
/** A task with a long text, and no files in it. */
const smallBytes = 64 * 1024;
/** Of the room for large bodies, what one address may take. */
const addressShare = 0.875;
/** Smaller pieces are copied together: each would cost more than it holds. */
const smallPieceBytes = 2048;
const blockBytes = 16 * 1024;
/** The time of a body: this, and a second for so many bytes. A phone on the road sends faster. */
const leastBodyMs = 10_000;
const leastBytesPerSecond = 256 * 1024;
const retryAfterS = 1;

/** Room for one body, from before it is read until its answer is out. */
interface Claim {
  readonly address: string;
  bytes: number;
}

/** The memory that bodies share. A body is let in as a whole, so that none that was begun waits for another one. */
class BodyRoom {
  #small = 0;
  #large = 0;
  /** Of large bodies, by address. */
  readonly #byAddress = new Map<string, number>();

  get heldBytes(): number {
    return this.#small + this.#large;
  }

  /** @throws ApiError where there is no room for it now */
  take(claim: Claim, bytes: number): void {
    this.release(claim);
    if (bytes <= smallBytes) {
      if (this.#small + bytes > smallRoomBytes) throw noRoom();
      this.#small += bytes;
    } else {
      const largeRoom = maxHeldBytes - smallRoomBytes;
      const own = this.#byAddress.get(claim.address) ?? 0;
      if (this.#large + bytes > largeRoom || own + bytes > largeRoom * addressShare) throw noRoom();
      this.#large += bytes;
      this.#byAddress.set(claim.address, own + bytes);
    }
    claim.bytes = bytes;
  }

  release(claim: Claim): void {
    const { bytes, address } = claim;
    claim.bytes = 0;
    if (bytes <= smallBytes) {
      this.#small -= bytes;
      return;
    }
    this.#large -= bytes;
    const left = (this.#byAddress.get(address) ?? 0) - bytes;
    if (left > 0) this.#byAddress.set(address, left);
    else this.#byAddress.delete(address);
  }
}

function noRoom(): ApiError {
  const message = 'the tasks that are being sent take all the memory there is for them; try again';
  return new ApiError(503, 'UNAVAILABLE', message, { reason: 'overloaded', retryAfterS });
}

/** Has the JSON bodies of all requests read within their bounds of time and memory. */
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

/** The pieces of a body. A client may send them a byte at a time. */
class Parts {
  readonly #length: number | undefined;
  #parts: Buffer[] = [];
  /** The buffer that small pieces are copied into; a body with a length has one for all of them. */
  #block: Buffer | undefined;
  #used = 0;

  constructor(length: number | undefined) {
    this.#length = length;
  }

  push(part: Buffer): void {
    if (this.#length === undefined) {
      const isSmall = part.length < smallPieceBytes;
      if (!isSmall || this.#used + part.length > blockBytes) this.#closeBlock();
      if (!isSmall) {
        this.#parts.push(part);
        return;
      }
    }
    this.#block ??= Buffer.allocUnsafeSlow(this.#length ?? blockBytes);
    part.copy(this.#block, this.#used);
    this.#used += part.length;
  }

  toText(): string {
    if (this.#length !== undefined) return this.#block?.toString('utf8', 0, this.#used) ?? '';
    this.#closeBlock();
    return Buffer.concat(this.#parts).toString('utf8');
  }

  drop(): void {
    this.#parts = [];
    this.#block = undefined;
    this.#used = 0;
  }

  #closeBlock(): void {
    if (this.#block === undefined) return;
    this.#parts.push(this.#block.subarray(0, this.#used));
    this.#block = undefined;
    this.#used = 0;
  }
}

/**
 * @param take asks for room for so many bytes in all, and throws where there is none
 * @throws ApiError for a body that is too large, or too slow
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
      () => fail(new ApiError(408, 'DEADLINE_EXCEEDED', 'the body of the request did not come in time')),
      leastBodyMs + ((length ?? maxBytes) / leastBytesPerSecond) * 1000,
    );
    const end = (): void => {
      clearTimeout(timer);
      payload.off('data', onData).off('end', onEnd);
      // What still comes is thrown away, until the connection ends with its answer.
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
      // Without a length it may be the largest that is allowed, once it is not small.
      if (bytes > taken && !ask(bytes > smallBytes ? Math.max(bytes, maxBytes) : smallBytes)) return;
      parts.push(part);
    };
    const onEnd = (): void => {
      end();
      // It is no more than that: the rest is others'.
      if (bytes < taken) take(bytes);
      const text = parts.toText();
      parts.drop();
      resolve(text);
    };
    const broken = (): void => {
      if (!payload.complete)
        fail(new ApiError(400, 'INVALID_ARGUMENT', 'the request ended before its body did'));
    };
    // A client that leaves is no failure of ours.
    payload.on('error', broken);
    payload.once('close', broken);
    if (length !== undefined && !ask(length)) return;
    payload.on('data', onData);
    payload.once('end', onEnd);
  });
}
