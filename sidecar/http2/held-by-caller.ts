/** Counts the bytes that the requests of one caller hold. */
import { ExpansionAllowance } from './expansion.ts';

/** A stream whose request holds memory; only `held-requests.ts` writes the fields that are not readonly. */
export interface HeldStream {
  readonly connection: { readonly held: HeldByConnection };
  readonly closed: boolean;
  /** The waiting part of its answer. */
  readonly queue: object | undefined;
  /** Whether the request waits for its caller to send more, or to read the answer. */
  readonly awaitsCaller: boolean;
  heldBytes: number;
  /** The bytes count, because no endpoint has the request. */
  held: boolean;
  heldSinceMs: number;
  heldOlder: HeldStream | undefined;
  heldNewer: HeldStream | undefined;
  /** Ends the request, because no memory is left for it. */
  refuseForRoom(): void;
}

/** The parts of a connection that counting such streams needs. */
export interface HoldingConnection {
  readonly clock: () => number;
  readonly lastReadAtMs: number;
  fail(source: 'peer', code: number, message: string): void;
}

/** The memory that one connection holds; only `held-requests.ts` writes it. */
export class HeldByConnection {
  readonly connection: HoldingConnection;
  bytes = 0;
  caller: HeldByCaller | undefined = undefined;
  /** The request that has received nothing for the longest time. The others follow in that order. */
  stillest: HeldStream | undefined = undefined;
  private latest: HeldStream | undefined = undefined;
  /** The bytes of an incomplete header block. */
  blockBytes = 0;
  blockBeganAtMs = 0;
  /** The latest request found no room. */
  overdrawn = false;

  constructor(connection: HoldingConnection) {
    this.connection = connection;
  }

  /** Adds a stream as the latest to receive something. */
  append(stream: HeldStream): void {
    const last = this.latest;
    stream.heldOlder = last;
    if (last === undefined) this.stillest = stream;
    else last.heldNewer = stream;
    this.latest = stream;
    // V8 stores a whole number without memory of its own.
    stream.heldSinceMs = Math.floor(this.connection.lastReadAtMs);
  }

  remove(stream: HeldStream): void {
    const { heldOlder: older, heldNewer: newer } = stream;
    if (older === undefined) this.stillest = newer;
    else older.heldNewer = newer;
    if (newer === undefined) this.latest = older;
    else newer.heldOlder = older;
    stream.heldOlder = undefined;
    stream.heldNewer = undefined;
  }

  /** When the stillest request, or the header block, last received something. */
  get stillSinceMs(): number {
    return this.stillest?.heldSinceMs ?? this.blockBeganAtMs;
  }
}

/** The memory that one caller holds, over all its connections. */
export class HeldByCaller {
  readonly name: string;
  bytes = 0;
  readonly connections = new Set<HeldByConnection>();
  readonly expansion = new ExpansionAllowance();

  constructor(name: string) {
    this.name = name;
  }

  /** The stillest of the connections that hold at least half as much as the largest one. */
  get stillest(): HeldByConnection | undefined {
    let mostBytes = 1;
    for (const held of this.connections) if (held.bytes > mostBytes) mostBytes = held.bytes;
    let found: HeldByConnection | undefined;
    for (const held of this.connections) {
      if (2 * held.bytes < mostBytes) continue;
      if (found === undefined || held.stillSinceMs < found.stillSinceMs) found = held;
    }
    return found;
  }
}
