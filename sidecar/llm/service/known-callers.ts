/**
 * Recognises the callers of the service (`llm.callers`), by their key or by the names in their certificate.
 *
 *     no callers configured            whoever reaches the listener: an agent beside it, or one with a verified certificate
 *     a key of a caller                that caller
 *     a name in its certificate        the first caller whose `identity` it is; the clients of providers send some key, too
 *     neither                          refused
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { AllowList } from '../../tls/identity.ts';
import type { Headers } from '../shared/headers.ts';
import { KeyFile } from '../shared/key-file.ts';
import type { LlmSettings } from '../shared/llm-settings.ts';
import { keysIn } from './key-lines.ts';
import { presentedKeys } from './presented-keys.ts';
import { ServiceCaller, type ServiceEnvironment } from './service-caller.ts';

/** Who asks, as the listener knows it. */
export interface Peer {
  /** The request came to an address of the loopback interface. */
  readonly isLoopback: boolean;
  /** The names in its verified certificate; undefined without one. */
  readonly names: readonly string[] | undefined;
}

/** Why a request is of no caller, in words for its sender. */
export interface Unknown {
  readonly message: string;
}

/** How often this replica looks for shares that it does not use. */
const LOOK_MS = 1_000;

const NO_KEY =
  'the request has no key for this service; send the key that its operator gave you as the API key of your client';
const WRONG_KEY =
  'the key is of no caller of this service; send the key that its operator gave you as the API key of your client';
const WRONG_NAME =
  'the certificate is of no caller of this service (llm.callers[].identity), and the request has no key';

export class KnownCallers {
  private callers: readonly ServiceCaller[] = [];
  /** By name, with what they have used: a caller that comes back has no new day. */
  private readonly everKnown = new Map<string, ServiceCaller>();
  private said = '';
  private identities: readonly { readonly allowed: AllowList; readonly caller: ServiceCaller }[] = [];
  private files: readonly { readonly file: KeyFile; readonly caller: ServiceCaller }[] = [];
  private byDigest: ReadonlyMap<string, { readonly digest: Buffer; readonly caller: ServiceCaller }> =
    new Map();
  /** Callers choose what they present, but not its digest, without this. */
  private readonly pepper = randomBytes(32);
  private readonly environment: ServiceEnvironment;
  private settings = '';
  private timer: NodeJS.Timeout | undefined = undefined;
  private texts: readonly (string | undefined)[] = [];

  constructor(settings: LlmSettings, environment: ServiceEnvironment) {
    this.environment = environment;
    this.apply(settings);
  }

  /** Whether there are callers, so that a request must be of one. */
  get isOn(): boolean {
    return this.callers.length > 0;
  }

  get all(): readonly ServiceCaller[] {
    return this.callers;
  }

  /** The files that hold keys of callers, by name of the caller. */
  get keyFiles(): readonly (readonly [caller: string, file: KeyFile])[] {
    return this.files.map(({ file, caller: { name } }) => [name, file]);
  }

  /** A caller of the same name keeps what it has used, also one that was gone for a while. */
  apply({ callers, replicas }: LlmSettings): void {
    const wanted = JSON.stringify([callers, replicas]);
    if (wanted === this.settings) return;
    this.settings = wanted;
    this.callers = callers.map((one) => {
      const caller = this.everKnown.get(one.name) ?? new ServiceCaller(one.name, this.environment);
      this.everKnown.set(one.name, caller);
      caller.apply(one, replicas);
      return caller;
    });
    this.identities = this.callers.flatMap((caller) =>
      caller.settings.identity === undefined
        ? []
        : [{ allowed: new AllowList([caller.settings.identity]), caller }],
    );
    this.files = this.callers.flatMap((caller) =>
      caller.settings.keyFile === undefined ? [] : [{ file: new KeyFile(caller.settings.keyFile), caller }],
    );
    this.digestKeys();
    clearInterval(this.timer);
    if (this.isOn) this.timer = setInterval(() => this.giveBackIdle(), LOOK_MS).unref();
  }

  /** Returns the caller of a request; undefined where there are no callers. */
  of(headers: Headers, target: string, { names }: Peer): ServiceCaller | Unknown | undefined {
    if (!this.isOn) return undefined;
    this.lookAtFiles();
    const keys = presentedKeys(headers, target);
    for (const key of keys) {
      const caller = this.byKey(key);
      if (caller !== undefined) return caller;
    }
    const caller =
      names === undefined
        ? undefined
        : this.identities.find(({ allowed }) => allowed.match(names) !== undefined)?.caller;
    // The clients of providers send some key: with a certificate it counts for nothing.
    if (caller !== undefined) return caller;
    if (keys.length > 0) return { message: WRONG_KEY };
    return { message: names === undefined ? NO_KEY : WRONG_NAME };
  }

  /** Gives back all that is held and not used. */
  async giveBack(): Promise<void> {
    const nowMs = this.environment.wallClock();
    await Promise.all(
      [...this.everKnown.values()].flatMap(({ shares }) => shares.map((share) => share.giveBack(nowMs))),
    );
  }

  close(): void {
    clearInterval(this.timer);
  }

  private giveBackIdle(): void {
    const nowMs = this.environment.wallClock();
    for (const { shares } of this.everKnown.values())
      for (const share of shares) void share.giveBackIdle(nowMs);
  }

  private byKey(key: string): ServiceCaller | undefined {
    const digest = this.digestOf(key);
    const found = this.byDigest.get(digest.toString('base64'));
    return found !== undefined && timingSafeEqual(found.digest, digest) ? found.caller : undefined;
  }

  private lookAtFiles(): void {
    const nowMs = this.environment.clock();
    if (this.files.some(({ file }, index) => file.key(nowMs) !== this.texts[index])) this.digestKeys();
  }

  private digestKeys(): void {
    const nowMs = this.environment.clock();
    this.texts = this.files.map(({ file }) => file.key(nowMs));
    const found = new Map<string, { digest: Buffer; caller: ServiceCaller }>();
    const problems: [ServiceCaller, string][] = [];
    const add = (text: string | undefined, caller: ServiceCaller): void => {
      const lines = keysIn(text ?? '');
      for (const problem of lines.problems) problems.push([caller, problem]);
      for (const key of lines.keys) {
        const digest = this.digestOf(key);
        const name = digest.toString('base64');
        const other = found.get(name)?.caller;
        if (other === undefined) found.set(name, { digest, caller });
        else if (other !== caller) problems.push([caller, `it has a key of ${other.name}, whose it stays`]);
      }
    };
    for (const caller of this.callers) {
      const { keyEnv } = caller.settings;
      if (keyEnv !== undefined) add(this.environment.variables[keyEnv], caller);
    }
    for (const [index, { caller }] of this.files.entries()) add(this.texts[index], caller);
    this.byDigest = found;
    const said = problems.map(([{ name }, problem]) => `${name}: ${problem}`).join('; ');
    if (said !== this.said)
      for (const [{ name }, problem] of problems) this.environment.events.onCallerKeys?.(name, problem);
    this.said = said;
  }

  private digestOf(key: string): Buffer {
    return createHmac('sha256', this.pepper).update(key).digest();
  }
}
