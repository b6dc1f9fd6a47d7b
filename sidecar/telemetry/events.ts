/**
 * Recent changes of the sidecar: circuits, ejections, connections, drain and reload. They are kept in a bounded ring,
 * which `/events` reads. A writer never waits for a reader.
 */

export interface SidecarEvent {
  /** Counts from 1; a gap shows a reader that it has missed events. */
  readonly id: number;
  /** ISO 8601, UTC. */
  readonly at: string;
  /** `circuit`, `ejection`, `drain`, `reload`, … */
  readonly type: string;
  readonly message: string;
  /** Numbers and names that belong to the event: cluster, endpoint, state. */
  readonly details: EventDetails;
}

export type EventDetails = Readonly<Record<string, string | number | boolean>>;

/** Receives each new event. `false` means that the reader can not keep up; we call it no more. */
export type EventReader = (event: SidecarEvent) => boolean;

const DEFAULT_CAPACITY = 256;
const DEFAULT_MAX_READERS = 16;
/** Bounds messages that include a peer's text. */
const MAX_MESSAGE_LENGTH = 500;

export class EventLog {
  private readonly capacity: number;
  private readonly maxReaders: number;
  private readonly now: () => number;
  private readonly ring: SidecarEvent[] = [];
  private readonly readers = new Set<EventReader>();
  private lastId = 0;

  /** @param now wall time in milliseconds since 1970 */
  constructor(now: () => number, { capacity = DEFAULT_CAPACITY, maxReaders = DEFAULT_MAX_READERS } = {}) {
    this.now = now;
    this.capacity = capacity;
    this.maxReaders = maxReaders;
  }

  get readerCount(): number {
    return this.readers.size;
  }

  record(type: string, message: string, details: EventDetails = {}): void {
    const at = new Date(this.now()).toISOString();
    const event = { id: ++this.lastId, at, type, message: message.slice(0, MAX_MESSAGE_LENGTH), details };
    // The ring has a few hundred entries: moving them costs less than an index that every reader would have to know.
    if (this.ring.push(event) > this.capacity) this.ring.shift();
    for (const reader of this.readers) {
      if (!reader(event)) this.readers.delete(reader);
    }
  }

  /** The newest events after the event with this id, oldest first. */
  recent(afterId = 0): readonly SidecarEvent[] {
    return this.ring.filter(({ id }) => id > afterId);
  }

  /** Sends every new event to `reader`; returns `undefined` when there are too many readers already. */
  subscribe(reader: EventReader): (() => void) | undefined {
    if (this.readers.size >= this.maxReaders) return undefined;
    this.readers.add(reader);
    return () => void this.readers.delete(reader);
  }
}
