/** Keeps the webhook's own certificate valid and trusted. */
import {
  type CertificateMaterial,
  type CertificateRequest,
  certificatesIn,
  inspect,
  withOlderAuthorities,
} from './certificate.ts';

/** The place where replicas of the webhook share a certificate. */
export interface CertificateStore {
  /** The stored certificate, with a version for `write`; missing material is undefined. */
  read(): Promise<{ material: CertificateMaterial | undefined; version: string }>;
  /** False when another writer has written since that version. */
  write(material: CertificateMaterial, version: string): Promise<boolean>;
}

/** Publishes the trusted authorities: the MutatingWebhookConfiguration's `caBundle`. */
export interface TrustPublisher {
  /** Resolves when the API servers' configuration trusts these authorities. */
  publish(ca: string): Promise<void>;
}

export interface KeeperEnvironment {
  readonly names: readonly string[];
  readonly lifetimeMs: number;
  readonly store: CertificateStore;
  /** Undefined if the operator publishes them. */
  readonly publisher: TrustPublisher | undefined;
  readonly now: () => number;
  readonly make: (request: CertificateRequest) => Promise<CertificateMaterial>;
  /** Serves this material from now on. */
  readonly serve: (material: CertificateMaterial) => void;
}

/** We make a new certificate when this share of the old one's lifetime remains. */
const ROTATE_AT_SHARE = 1 / 3;
/** The delay between publishing and serving; by then every API server has the new bundle. */
const SETTLE_MS = 30_000;

/**
 * Keeps a certificate that API servers trust. Each `tick`:
 *
 *     store ── usable? ──no──▶ make one, write it (the first writer wins; the others read it)
 *       │                                        │
 *       └──────────── yes ───────────────────────┴──▶ publish its authorities ──▶ settle ──▶ serve
 *
 * The bundle holds the old authority beside the new one, so replicas may change one after the other. The next tick
 * repeats what failed; meanwhile the webhook keeps its current certificate.
 */
export class CertificateKeeper {
  private readonly environment: KeeperEnvironment;
  private served: CertificateMaterial | undefined = undefined;
  private servedUntilMs = 0;
  private published: { readonly ca: string; readonly atMs: number } | undefined = undefined;

  constructor(environment: KeeperEnvironment) {
    this.environment = environment;
  }

  /** Milliseconds since the epoch; 0 without a certificate. */
  get expiresAtMs(): number {
    return this.servedUntilMs;
  }

  /** Why the webhook can't answer reviews; undefined when it can. */
  get notReadyBecause(): string | undefined {
    if (this.served === undefined) return 'the webhook has no certificate yet that API servers trust';
    if (this.servedUntilMs <= this.environment.now()) return 'the certificate has expired';
    return undefined;
  }

  /** One check. Throws errors of the store or the publisher; the state stays valid. */
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

  /** The stored certificate, or a new one that we stored; undefined when another replica is about to store one. */
  private async usable(): Promise<CertificateMaterial | undefined> {
    const { store, now, names, lifetimeMs, make } = this.environment;
    const { material, version } = await store.read();
    if (material !== undefined && this.isFresh(material)) return material;
    const made = await make({ names, nowMs: now(), lifetimeMs });
    // The served certificate stays trusted until the new one is served, even if the store has lost it.
    const older = `${material?.ca ?? ''}${this.served?.ca ?? ''}`;
    const next = withOlderAuthorities(made, older, now());
    if (await store.write(next, version)) return next;
    const other = (await store.read()).material;
    return other !== undefined && this.isFresh(other) ? other : undefined;
  }

  private isFresh(material: CertificateMaterial): boolean {
    const { names, now, lifetimeMs } = this.environment;
    const inspected = inspect(material, names);
    if ('unusable' in inspected || certificatesIn(material.ca).length === 0) return false;
    const { notBeforeMs, notAfterMs } = inspected;
    // Measured by its own lifetime, but no longer than the lifetime that is configured now.
    const lifeMs = Math.min(notAfterMs - notBeforeMs, lifetimeMs);
    return notAfterMs - now() > lifeMs * ROTATE_AT_SHARE;
  }
}

/** A store for this process alone. */
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
