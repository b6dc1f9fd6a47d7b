import {
  type CertificateMaterial,
  type CertificateRequest,
  certificatesIn,
  inspect,
  withOlderAuthorities,
} from './certificate.ts';

/** Where replicas of the webhook share a certificate. */
export interface CertificateStore {
  /** What is stored, with a version for `write`; material that is not there is undefined. */
  read(): Promise<{ material: CertificateMaterial | undefined; version: string }>;
  /** False when somebody else has written since that version. */
  write(material: CertificateMaterial, version: string): Promise<boolean>;
}

/** Who is told what to trust: the MutatingWebhookConfiguration's `caBundle`. */
export interface TrustPublisher {
  /** Resolves when API servers are told to trust these authorities. */
  publish(ca: string): Promise<void>;
}

export interface KeeperEnvironment {
  readonly names: readonly string[];
  readonly lifetimeMs: number;
  readonly store: CertificateStore;
  /** Undefined where somebody else does it. */
  readonly publisher: TrustPublisher | undefined;
  readonly now: () => number;
  readonly make: (request: CertificateRequest) => Promise<CertificateMaterial>;
  /** New material is to be served from now on. */
  readonly serve: (material: CertificateMaterial) => void;
}

/** A new one is made when this share of the old one's life is left. */
const ROTATE_AT_SHARE = 1 / 3;
/** From "trusted" to "served": every API server has heard of it by then. */
const SETTLE_MS = 30_000;

/**
 * Keeps a certificate that API servers trust. Each `tick`:
 *
 *     store ── usable? ──no──▶ make one, write it (who writes first wins; the others read it)
 *       │                                        │
 *       └──────────── yes ───────────────────────┴──▶ publish its authorities ──▶ settle ──▶ serve
 *
 * The bundle has the old authority beside the new one, so replicas may change one after the other. What fails is
 * tried again at the next tick, and what is served goes on being served.
 */
export class CertificateKeeper {
  private readonly environment: KeeperEnvironment;
  private served: CertificateMaterial | undefined = undefined;
  private servedUntilMs = 0;
  private published: { readonly ca: string; readonly atMs: number } | undefined = undefined;

  constructor(environment: KeeperEnvironment) {
    this.environment = environment;
  }

  /** Milliseconds since the epoch; 0 when none is served. */
  get expiresAtMs(): number {
    return this.servedUntilMs;
  }

  /** Why reviews can't be answered; undefined when they can. */
  get notReadyBecause(): string | undefined {
    if (this.served === undefined) return 'there is no certificate yet that API servers trust';
    if (this.servedUntilMs <= this.environment.now()) return 'the certificate has expired';
    return undefined;
  }

  /** One look. Throws what the store or the publisher threw; nothing is lost by it. */
  async tick(): Promise<void> {
    const { publisher, now, names } = this.environment;
    const material = await this.usable();
    if (material === undefined) return;
    await publisher?.publish(material.ca);
    if (this.published?.ca !== material.ca) this.published = { ca: material.ca, atMs: now() };
    if (this.served?.cert === material.cert) return;
    const oldServes = this.served !== undefined && this.servedUntilMs > now() + SETTLE_MS;
    if (oldServes && now() - this.published.atMs < SETTLE_MS) return;
    const inspected = inspect(material, names);
    if ('unusable' in inspected) return;
    this.served = material;
    this.servedUntilMs = inspected.notAfterMs;
    this.environment.serve(material);
  }

  /** What is in the store, or what has been put there; undefined when another replica is about to. */
  private async usable(): Promise<CertificateMaterial | undefined> {
    const { store, now, names, lifetimeMs, make } = this.environment;
    const { material, version } = await store.read();
    if (material !== undefined && this.isFresh(material)) return material;
    const made = await make({ names, nowMs: now(), lifetimeMs });
    const next = material === undefined ? made : withOlderAuthorities(made, material.ca, now());
    if (await store.write(next, version)) return next;
    const other = (await store.read()).material;
    return other !== undefined && this.isFresh(other) ? other : undefined;
  }

  private isFresh(material: CertificateMaterial): boolean {
    const { names, now, lifetimeMs } = this.environment;
    const inspected = inspect(material, names);
    if ('unusable' in inspected || certificatesIn(material.ca).length === 0) return false;
    const { notBeforeMs, notAfterMs } = inspected;
    // Of its own life, but no longer than what is asked for now.
    const lifeMs = Math.min(notAfterMs - notBeforeMs, lifetimeMs);
    return notAfterMs - now() > lifeMs * ROTATE_AT_SHARE;
  }
}

/** A certificate of this process alone. */
export function memoryStore(): CertificateStore {
  let kept: CertificateMaterial | undefined;
  return {
    read: async () => ({ material: kept, version: '' }),
    write: async (material) => {
      kept = material;
      return true;
    },
  };
}
