import { ExpansionAllowance } from './expansion.ts';

/** A stream whose request holds memory; only `held-requests.ts` writes what is not readonly. */
export interface HeldStream {
  readonly connection: { readonly held: HeldByConnection };
  readonly closed: boolean;
  /** What waits of its answer. */
  readonly queue: object | undefined;
  /** Whether the request waits for its caller: for more of it, or to read the answer. */
  readonly awaitsCaller: boolean;
  heldBytes: number;
  /** They count: nobody works on the request. */
  held: boolean;
  heldSinceMs: number;
  heldOlder: HeldStream | undefined;
  heldNewer: HeldStream | undefined;
  /** Ends the request, for there is no room for it. */
  refuseForRoom(): void;
}

/** A connection with such streams. */
export interface HoldingConnection {
  readonly clock: () => number;
  readonly lastReadAtMs: number;
  fail(source: 'peer', code: number, message: string): void;
}

/** What one connection holds; only `held-requests.ts` writes it. */
export class HeldByConnection {
  readonly connection: HoldingConnection;
  bytes = 0;
  caller: HeldByCaller | undefined = undefined;
  /** Of its requests the one of which nothing has come for the longest time. The others follow in that order. */
  stillest: HeldStream | undefined = undefined;
  private latest: HeldStream | undefined = undefined;
  /** Of a header block whose end has not come. */
  blockBytes = 0;
  blockBeganAtMs = 0;
  /** Its last request found no room. */
  overdrawn = false;

  constructor(connection: HoldingConnection) {
    this.connection = connection;
  }

  /** Takes a stream as the one that has moved last. */
  append(stream: HeldStream): void {
    const last = this.latest;
    stream.heldOlder = last;
    if (last === undefined) this.stillest = stream;
    else last.heldNewer = stream;
    this.latest = stream;
    // A whole number needs no memory of its own.
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

  /** Since when nothing has come of the request that is stillest, or of the block. */
  get stillSinceMs(): number {
    return this.stillest?.heldSinceMs ?? this.blockBeganAtMs;
  }
}

/** What one caller holds, over all its connections. */
export class HeldByCaller {
  readonly name: string;
  bytes = 0;
  readonly connections = new Set<HeldByConnection>();
  readonly expansion = new ExpansionAllowance();

  constructor(name: string) {
    this.name = name;
  }

  /** Of the connections that hold half as much as the one with most, or more, the one that has been still for longest. */
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
