/** Shares the connections of a listener fairly among client addresses. */
import { FairPlaces, Holder } from '../policy/fair-places.ts';
import { Neighbours } from './neighbours.ts';

/** The connections of one address, or of one network with many (`neighbours.ts`). */
class AddressHolder extends Holder {
  readonly name: string;

  constructor(name: string) {
    super();
    this.name = name;
  }
}

/** A connection's place, from accept to close. */
export interface ConnectionPlace {
  /** Counts the places of its address. */
  readonly holder: AddressHolder;
  /** The address or network that it counts for. */
  readonly name: string;
  /** False once it is released or belongs to another connection. */
  isOpen: boolean;
}

/** Stands for the place of a connection that takes none. */
export const NO_PLACE: ConnectionPlace = { holder: new AddressHolder(''), name: '', isOpen: false };

/**
 * The places of a listener's connections, shared among addresses (`policy/fair-places.ts`), because a new connection has
 * shown no certificate yet. When no place is free, an idle connection is closed for the new one (`idlest`), so that idle
 * connections can't lock out one address or all.
 */
export class ConnectionPlaces {
  private readonly fair: FairPlaces;
  private readonly holders = new Map<string, AddressHolder>();
  private readonly neighbours = new Neighbours();

  constructor(limit: number) {
    this.fair = new FairPlaces(limit);
  }

  set limit(limit: number) {
    this.fair.limit = limit;
  }

  get used(): number {
    return this.fair.used;
  }

  /** Undefined when this address may have no more. The caller must release the place, once or more often. */
  take(address: string): ConnectionPlace | undefined {
    const holder = this.holderOf(address);
    if (!this.fair.take(holder)) return undefined;
    return this.given(holder);
  }

  /** Gives the place of a connection that is being closed to another address. */
  takeOver(old: ConnectionPlace, address: string): ConnectionPlace {
    const holder = this.holderOf(address);
    old.isOpen = false;
    this.fair.move(old.holder, holder);
    this.forget(old.holder);
    return this.given(holder);
  }

  release(place: ConnectionPlace): void {
    if (!place.isOpen) return;
    place.isOpen = false;
    this.fair.release(place.holder);
    this.forget(place.holder);
  }

  /**
   * Chooses the connection to close for a new one of this address: an idle connection of the address that has most, if that
   * is the same address, or still has more without it. Of those it takes the one that was silent longest. Undefined when
   * there is none.
   */
  idlest<Candidate extends IdleCandidate>(
    candidates: Iterable<Candidate>,
    address: string,
  ): Candidate | undefined {
    const name = this.neighbours.nameOf(address);
    const own = this.holders.get(name)?.held ?? 0;
    let chosen: Candidate | undefined;
    for (const candidate of candidates) {
      const { holder } = candidate.place;
      if (!candidate.isIdle || (holder.name !== name && holder.held <= own + 1)) continue;
      if (chosen === undefined || comesBefore(candidate, chosen)) chosen = candidate;
    }
    return chosen;
  }

  private holderOf(address: string): AddressHolder {
    const name = this.neighbours.nameOf(address);
    return this.holders.get(name) ?? new AddressHolder(name);
  }

  private given(holder: AddressHolder): ConnectionPlace {
    const { name } = holder;
    this.holders.set(name, holder);
    this.neighbours.add(name);
    return { holder, name, isOpen: true };
  }

  private forget(holder: AddressHolder): void {
    const { name } = holder;
    if (holder.held > 0 || this.holders.get(name) !== holder) return;
    this.holders.delete(name);
    this.neighbours.delete(name);
  }
}

export interface IdleCandidate {
  readonly place: ConnectionPlace;
  /** It has no calls. */
  readonly isIdle: boolean;
  /** When it last received bytes. */
  readonly lastReadAtMs: number;
}

function comesBefore(one: IdleCandidate, other: IdleCandidate): boolean {
  const difference = one.place.holder.held - other.place.holder.held;
  return difference === 0 ? one.lastReadAtMs < other.lastReadAtMs : difference > 0;
}
