import { FairPlaces, Holder } from '../policy/fair-places.ts';
import { Neighbours } from './neighbours.ts';

/** The connections of one address, or of a network of many (`neighbours.ts`). */
class AddressHolder extends Holder {
  readonly name: string;

  constructor(name: string) {
    super();
    this.name = name;
  }
}

/** A connection's place, from its acceptance to its end. */
export interface ConnectionPlace {
  /** How many its address has. */
  readonly holder: Holder;
  /** The address, or the network, that it is counted for. */
  readonly name: string;
}

/** Of a connection that is open. */
interface Taken extends ConnectionPlace {
  readonly holder: AddressHolder;
  isOpen: boolean;
}

/**
 * The places of a listener's connections, shared among addresses (`policy/fair-places.ts`): who connects has shown no
 * certificate yet. Where there is none for a newcomer, an idle connection gives way (`idlest`), so that neither an address nor all
 * of them together can be shut out by connections that do nothing.
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

  /** Undefined when this address may have no more. Must be given back, once or more often. */
  take(address: string): ConnectionPlace | undefined {
    const holder = this.holderOf(address);
    if (!this.fair.take(holder)) return undefined;
    return this.given(holder);
  }

  /** Takes the place of a connection that has to go. */
  takeOver(old: ConnectionPlace, address: string): ConnectionPlace {
    const taken = old as Taken;
    const holder = this.holderOf(address);
    taken.isOpen = false;
    this.fair.move(taken.holder, holder);
    this.forget(taken.holder);
    return this.given(holder);
  }

  release(place: ConnectionPlace): void {
    const taken = place as Taken;
    if (!taken.isOpen) return;
    taken.isOpen = false;
    this.fair.release(taken.holder);
    this.forget(taken.holder);
  }

  /**
   * Of these connections the one that goes for another one of this address: an idle one of the address that has most, if that is
   * the same one, or has more even without it; of those the one that has been silent for longest. Undefined when none does.
   */
  idlest<Candidate extends IdleCandidate>(
    candidates: Iterable<Candidate>,
    address: string,
  ): Candidate | undefined {
    const name = this.neighbours.nameOf(address);
    const own = this.holders.get(name)?.held ?? 0;
    let chosen: Candidate | undefined;
    for (const candidate of candidates) {
      const { holder } = candidate.place as Taken;
      if (!candidate.isIdle || (holder.name !== name && holder.held <= own + 1)) continue;
      if (chosen === undefined || comesBefore(candidate, chosen)) chosen = candidate;
    }
    return chosen;
  }

  private holderOf(address: string): AddressHolder {
    const name = this.neighbours.nameOf(address);
    return this.holders.get(name) ?? new AddressHolder(name);
  }

  private given(holder: AddressHolder): Taken {
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
  /** No call is on it. */
  readonly isIdle: boolean;
  /** When something came on it last. */
  readonly lastReadAtMs: number;
}

function comesBefore(one: IdleCandidate, other: IdleCandidate): boolean {
  const difference = one.place.holder.held - other.place.holder.held;
  return difference === 0 ? one.lastReadAtMs < other.lastReadAtMs : difference > 0;
}
