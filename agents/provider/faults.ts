/** The provider's behaviour on a request. Every omitted field means the behaviour of a healthy provider. */
export interface Behaviour {
  /** Wait this long before the response begins, in milliseconds. */
  latency_ms?: number;
  /** Wait between the headers and the first byte of the body, in milliseconds. */
  first_byte_ms?: number;
  /** Wait before each chunk of a stream but the first, in milliseconds. */
  chunk_delay_ms?: number;
  /** Answer with this HTTP status, 400 to 599. */
  fail?: { status: number };
  /** Answer 429. retry_after is in seconds; without it there is no Retry-After. */
  throttle?: { retry_after?: number };
  /** Close the connection abruptly after this many chunks; for a plain answer, in the middle of the body. */
  cut_after_chunks?: number;
  /** End the stream cleanly after this many chunks, without its end marker. */
  end_after_chunks?: number;
  /** Send nothing after this many chunks until the caller disconnects; for a plain answer, nothing at all. */
  stall_after_chunks?: number;
  /** Send server-sent comments instead of chunks until the caller disconnects. */
  comments_only?: boolean;
  /** Answer, and plan, differently each time, as models do. */
  vary?: boolean;
  /** Send a body that is not JSON. */
  malformed?: boolean;
  /** Make the answer exactly this many tokens long. */
  output_tokens?: number;
  /** Call this tool instead of an answer. `arguments` is JSON; {} without it. */
  tool_call?: { name: string; arguments?: string };
}

/** The requests to which a rule applies. Every given field must match; an empty scope matches every request. */
interface Scope {
  /** Part of the model's name. */
  model?: string;
  /** Part of the question. */
  input?: string;
  /** A header and its exact value. */
  header?: { name: string; value: string };
}

export interface Rule {
  scope?: Scope;
  /** The number of requests to which the rule applies. */
  times?: number;
  behaviour: Behaviour;
}

export interface RequestFacts {
  model: string;
  question: string;
  headers: Readonly<Record<string, string | string[] | undefined>>;
}

const maxRules = 1000;

/** The rules in force. Of the rules that match a request, the latest one applies. */
export class Faults {
  private rules: { rule: Rule; left: number }[] = [];

  add(rule: Rule): void {
    if (this.rules.length >= maxRules) throw new RangeError(`at most ${maxRules} rules; POST /control/reset`);
    this.rules.push({ rule, left: rule.times ?? Number.POSITIVE_INFINITY });
  }

  clear(): void {
    this.rules = [];
  }

  list(): (Rule & { left: number | null })[] {
    return this.rules.map(({ rule, left }) => ({ ...rule, left: Number.isFinite(left) ? left : null }));
  }

  /** Returns the behaviour for a request, and counts the request against the rule's `times`. */
  take(request: RequestFacts): Behaviour {
    const entry = this.rules.findLast(({ rule }) => fits(rule.scope ?? {}, request));
    if (entry === undefined) return {};
    entry.left -= 1;
    if (entry.left <= 0) this.rules = this.rules.filter((other) => other !== entry);
    return entry.rule.behaviour;
  }
}

function fits({ model, input, header }: Scope, request: RequestFacts): boolean {
  if (model !== undefined && !request.model.includes(model)) return false;
  if (input !== undefined && !request.question.includes(input)) return false;
  return header === undefined || request.headers[header.name.toLowerCase()] === header.value;
}

const waits = ['latency_ms', 'first_byte_ms', 'chunk_delay_ms'] as const;
const counts = ['cut_after_chunks', 'end_after_chunks', 'stall_after_chunks', 'output_tokens'] as const;
const flags = ['comments_only', 'malformed', 'vary'] as const;

/**
 * Parses the rule of a control request.
 *
 * @throws TypeError that names the invalid key and its valid values
 */
export function parseRule(value: unknown): Rule {
  const { scope, times, behaviour, ...others } = object(value, 'the body');
  refuseOthers(others, 'the body');
  const rule: Rule = { behaviour: parseBehaviour(object(behaviour, 'behaviour')) };
  if (times !== undefined) rule.times = number(times, 'times', 1, 1_000_000);
  if (scope !== undefined) rule.scope = parseScope(object(scope, 'scope'));
  return rule;
}

function parseScope({ model, input, header, ...others }: Record<string, unknown>): Scope {
  refuseOthers(others, 'scope');
  const scope: Scope = {};
  if (model !== undefined) scope.model = text(model, 'scope.model');
  if (input !== undefined) scope.input = text(input, 'scope.input');
  if (header !== undefined) {
    const { name, value } = object(header, 'scope.header');
    scope.header = { name: text(name, 'scope.header.name'), value: text(value, 'scope.header.value') };
  }
  return scope;
}

function parseBehaviour(given: Record<string, unknown>): Behaviour {
  const behaviour: Behaviour = {};
  const rest = { ...given };
  for (const key of waits) {
    if (rest[key] !== undefined) behaviour[key] = number(rest[key], key, 0, 3_600_000);
    delete rest[key];
  }
  for (const key of counts) {
    if (rest[key] !== undefined) behaviour[key] = number(rest[key], key, 0, 10_000_000);
    delete rest[key];
  }
  for (const key of flags) {
    if (rest[key] !== undefined) behaviour[key] = rest[key] === true;
    delete rest[key];
  }
  if (rest['fail'] !== undefined) {
    behaviour.fail = { status: number(object(rest['fail'], 'fail')['status'], 'fail.status', 400, 599) };
  }
  if (rest['throttle'] !== undefined) {
    const after = object(rest['throttle'], 'throttle')['retry_after'];
    behaviour.throttle =
      after === undefined ? {} : { retry_after: number(after, 'throttle.retry_after', 0, 86_400) };
  }
  if (rest['tool_call'] !== undefined) {
    const { name, arguments: json, ...others } = object(rest['tool_call'], 'tool_call');
    refuseOthers(others, 'tool_call');
    behaviour.tool_call = { name: text(name, 'tool_call.name') };
    if (json !== undefined) behaviour.tool_call.arguments = text(json, 'tool_call.arguments');
  }
  for (const key of ['fail', 'throttle', 'tool_call']) delete rest[key];
  refuseOthers(rest, 'behaviour');
  return behaviour;
}

function object(value: unknown, name: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new TypeError(`${name} must be an object`);
}

function number(value: unknown, name: string, least: number, most: number): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new TypeError(`${name} must be a number from ${least} to ${most}`);
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new TypeError(`${name} must be a text`);
}

function refuseOthers(others: Record<string, unknown>, name: string): void {
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw new TypeError(`${name} has no key "${unknown}"`);
}
