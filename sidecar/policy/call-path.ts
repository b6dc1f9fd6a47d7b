/**
 * The path of agents that a call has come through; it prevents loops of agents. Pure.
 *
 *     gateway ──▶ research ──▶ writing ──▶ research        refused by research's sidecar: it is in its own path
 *         path: gateway    gateway,research   gateway,research,writing
 *
 *     research ──▶ writing ──▶ code                        allowed: each call has its own path, and code is in none
 *         └──────▶ search ───▶ code
 *
 * The header `outrigger-path` names the agents from the first caller to the last, separated by commas, the sender last.
 * The sidecar of a called agent checks the path before the agent runs, and sends it, with that agent's name appended,
 * on every call that the agent makes for this one.
 *
 * Agents that one process serves side by side are agents of their own in the path: `support/triage` may call
 * `support/billing`, which may not call `support/triage` again.
 *
 * A refused call would be refused again: answer it FAILED_PRECONDITION, which no policy retries, and with a pushback of
 * "never". As any header, the path may be forged; a forged path can only fail calls that its sender could have omitted.
 */

export const CALL_PATH_HEADER = 'outrigger-path';

/**
 * The most agents in a path, including the called one. Chains that people design have three or four; eight leaves room,
 * and stops a loop of agents that don't know each other's names before it costs much.
 */
export const DEFAULT_MAX_DEPTH = 8;

/** The length of an agent's name in the path; longer names are cut. */
const MAX_NAME_LENGTH = 64;

export type PathCheck =
  /** `path` is the header's value for the calls that the agent makes for this one. */
  | { readonly ok: true; readonly path: string }
  | { readonly ok: false; readonly refuse: 'cycle' | 'depth'; readonly message: string };

export interface CallPathSettings {
  /** The most agents in a path, this one included; 0 means no limit. */
  readonly maxDepth: number;
  /** Set for agents that call themselves or each other on purpose: then only the depth ends a loop. */
  readonly allowCycles: boolean;
  /** The agents that the process serves side by side. */
  readonly agentTypes?: Iterable<string>;
}

/** Checks the paths of calls to one agent. */
export class CallPathGuard {
  private readonly name: string;
  /** The path of a call that no agent made: the agent's own name. */
  readonly self: string;
  private readonly maxDepth: number;
  private readonly allowCycles: boolean;
  /** The path of calls that no agent made. */
  private readonly first: PathCheck;
  private readonly byAgentType = new Map<string, CallPathGuard>();
  /** The last header and its result, since callers repeat themselves. */
  private lastHeader = '';
  private lastCheck: PathCheck;

  constructor(name: string, settings: CallPathSettings) {
    this.name = name;
    this.self = encodeName(name);
    this.maxDepth = settings.maxDepth === 0 ? Number.POSITIVE_INFINITY : settings.maxDepth;
    this.allowCycles = settings.allowCycles;
    this.first = { ok: true, path: this.self };
    this.lastCheck = this.first;
    const { maxDepth, allowCycles } = settings;
    for (const agentType of settings.agentTypes ?? [])
      this.byAgentType.set(agentType, new CallPathGuard(`${name}/${agentType}`, { maxDepth, allowCycles }));
  }

  /** Whether a call's agent type decides its name in the path. */
  get needsAgentType(): boolean {
    return this.byAgentType.size > 0;
  }

  /**
   * The path of a call for which one of several running calls was made, nobody knows which. Where the process serves one
   * agent, its name suffices to end a loop. Of several agents none may be accused, so the path is as deep as that of the
   * deepest running call: a loop ends at the greatest depth.
   *
   * @param deepest the number of agents in the longest path of a running call
   */
  ofUnknownOwner(deepest: number): string {
    if (!this.needsAgentType || deepest <= 1) return this.self;
    return new Array(Math.min(deepest, MAX_COUNTED_DEPTH)).fill(this.self).join(',');
  }

  /** The guard of one of the agents that the process serves; itself for others. */
  of(agentType: string): CallPathGuard {
    return this.byAgentType.get(agentType) ?? this;
  }

  /** `header` is the field of the call; several are joined by commas, as HTTP defines. */
  check(header: string | undefined): PathCheck {
    if (header === undefined || header === '') return this.first;
    if (header !== this.lastHeader) {
      this.lastCheck = this.checkAnew(header);
      this.lastHeader = header;
    }
    return this.lastCheck;
  }

  private checkAnew(header: string): PathCheck {
    const maxDepth = Math.min(this.maxDepth, MAX_COUNTED_DEPTH);
    // No allowed path can be longer; don't parse what is.
    if (header.length > maxDepth * (MAX_NAME_LENGTH + 2)) return this.tooDeep(`over ${maxDepth}`);
    const names: string[] = [];
    for (const part of header.split(',')) {
      const name = part.trim();
      if (name !== '') names.push(name.slice(0, MAX_NAME_LENGTH));
    }
    const at = names.indexOf(this.self);
    if (at >= 0 && !this.allowCycles) {
      const loop = [...names.slice(at), this.self].map(decodeName).join(' → ');
      const message = `${this.name} is in the path of this call already (${loop}): agents must not call each other in a circle`;
      return { ok: false, refuse: 'cycle', message };
    }
    if (names.length + 1 > maxDepth) return this.tooDeep(String(names.length + 1));
    names.push(this.self);
    return { ok: true, path: names.join(',') };
  }

  private tooDeep(depth: string): PathCheck {
    const message = `this call has come through ${depth} agents, ${this.name} included; at most ${Math.min(this.maxDepth, MAX_COUNTED_DEPTH)} are allowed`;
    return { ok: false, refuse: 'depth', message };
  }
}

/** Limits a `maxDepth` of "any": the header must stay a header. */
const MAX_COUNTED_DEPTH = 100;

/** Letters, digits and `-._~` as they are, everything else percent-encoded (RFC 3986, section 2), cut between escapes. */
function encodeName(name: string): string {
  const whole = encodeURIComponent(name.toWellFormed()).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return whole.slice(0, MAX_NAME_LENGTH).replace(/%.?$/, '') || 'unnamed';
}

/** For messages; invalid encoding is shown as received. */
function decodeName(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
