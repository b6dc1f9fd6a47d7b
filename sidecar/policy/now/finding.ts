/**
 * What an operator is told first: each thing that is wrong at this moment, with its cause, since when and in numbers.
 * Pure, as all of this folder: facts come in once a second, findings go out.
 */

/**
 * In the order in which findings are told: what causes others comes before them. A silent replica times calls out, the
 * time-outs eject it and open a circuit; an expired certificate makes endpoints unreachable; a provider that refuses makes
 * an agent's calls fail.
 */
const FINDING_KINDS = [
  'certificate_expired',
  'certificate_unusable',
  'draining',
  'not_ready',
  'cluster_silent',
  'endpoint_silent',
  'endpoint_unreachable',
  'provider_unpaid',
  'provider_refuses',
  'provider_throttles',
  'provider_fails',
  'provider_slow',
  'provider_circuit',
  'no_answers',
  'slow_answers',
  'endpoint_ejected',
  'endpoint_unusable',
  'no_endpoint',
  'circuit_open',
  'calls_fail',
  'turned_away',
  'own_limits',
  'circuit_half_open',
  'endpoint_cooling',
  'endpoint_probation',
  'endpoint_removed',
  'certificate_expires',
] as const;

export type FindingKind = (typeof FINDING_KINDS)[number];

/** `bad`: calls suffer, or surely will. `warn`: to be looked at. */
export type Severity = 'bad' | 'warn';

export interface Finding {
  readonly kind: FindingKind;
  /** The same from look to look while it is the same finding. */
  readonly id: string;
  readonly severity: Severity;
  /** A sentence that stays as it is while nothing changes, so that a screen reader says it once: it has no running numbers. */
  readonly text: string;
  /** The numbers in words; '' where there are none. */
  readonly detail: string;
  /** What it is about: `cluster`, `endpoint`, `method`, `provider`, `model`, `setting`, `listener`. */
  readonly about: Readonly<Record<string, string>>;
  /** Units are in the names. */
  readonly numbers: Readonly<Record<string, number>>;
}

/** A finding that has been told for some time. */
export interface ToldFinding extends Finding {
  /** When it was first seen, by the clock of the looks. */
  readonly sinceMs: number;
}

const RANKS: ReadonlyMap<FindingKind, number> = new Map(FINDING_KINDS.map((kind, rank) => [kind, rank]));

/** Causes before their consequences; of one kind the bad before the others, then the older. */
export function compareFindings(one: ToldFinding, other: ToldFinding): number {
  const bySeverity = (finding: Finding): number => (finding.severity === 'bad' ? 0 : 1);
  return (
    RANKS.get(one.kind)! - RANKS.get(other.kind)! ||
    bySeverity(one) - bySeverity(other) ||
    one.sinceMs - other.sinceMs
  );
}
