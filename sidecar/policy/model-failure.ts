/**
 * Why the last model request of a call failed, on its way back through the callers' sidecars. Pure.
 *
 * The failure follows the call's answer in one field of JSON, escaped to printable ASCII, so that clients in any
 * language can read it:
 * `{"status":401,"upstream":"openai","path":"/v1/chat/completions","model":"m","message":"…","way":["research"]}`.
 */

/** Metadata at the end of an answer. */
export const MODEL_FAILURE_HEADER = 'outrigger-model-failure';

export interface ModelFailure {
  /** HTTP status of the provider's answer; 0 when it gave none. */
  readonly status: number;
  /** `outrigger-reason` where the egress answered in the provider's place; '' otherwise. */
  readonly reason: string;
  /** The provider's name in the configuration; '' when the egress asked none. */
  readonly upstream: string;
  /** The path of the request to the provider, without a query. */
  readonly path: string;
  readonly model: string;
  /** The message of the provider or of the egress; without keys. */
  readonly message: string;
  /** The names of the sidecars that passed the failure on: first the one whose agent was called first. */
  readonly way: readonly string[];
}

const MAX_MESSAGE_CHARS = 300;
const MAX_NAME_CHARS = 128;
const MAX_HOPS = 16;
/** Servers and clients accept 8 KiB of metadata by default, and there are other fields. */
const MAX_FIELD_CHARS = 4_096;

/** The value of the field; a long message is cut to fit. */
export function formatModelFailure(failure: ModelFailure): string {
  const { status, reason, upstream, path, model, message, way } = failure;
  const build = (messageChars: number, hops: number): string =>
    ascii(
      JSON.stringify({
        ...(status > 0 ? { status } : {}),
        ...(reason === '' ? {} : { reason }),
        ...(upstream === '' ? {} : { upstream: cut(upstream, MAX_NAME_CHARS) }),
        ...(path === '' ? {} : { path: cut(path, MAX_NAME_CHARS) }),
        ...(model === '' ? {} : { model: cut(model, MAX_NAME_CHARS) }),
        message: cut(message, messageChars),
        way: way.slice(0, hops).map((name) => cut(name, MAX_NAME_CHARS)),
      }),
    );
  const whole = build(MAX_MESSAGE_CHARS, MAX_HOPS);
  return whole.length <= MAX_FIELD_CHARS ? whole : build(MAX_MESSAGE_CHARS / 10, 1);
}

/** Undefined for any other value. */
export function parseModelFailure(text: string): ModelFailure | undefined {
  if (text.length > MAX_FIELD_CHARS || !text.startsWith('{')) return undefined;
  let read: Partial<Record<keyof ModelFailure, unknown>>;
  try {
    read = JSON.parse(text) as typeof read;
  } catch {
    return undefined;
  }
  const { status, way } = read;
  const words = (value: unknown, maxChars: number): string =>
    typeof value === 'string' ? cut(value, maxChars) : '';
  return {
    status: Number.isInteger(status) ? (status as number) : 0,
    reason: words(read.reason, MAX_NAME_CHARS),
    upstream: words(read.upstream, MAX_NAME_CHARS),
    path: words(read.path, MAX_NAME_CHARS),
    model: words(read.model, MAX_NAME_CHARS),
    message: words(read.message, MAX_MESSAGE_CHARS),
    way: (Array.isArray(way) ? way : [])
      .filter((name) => typeof name === 'string')
      .slice(0, MAX_HOPS)
      .map((name) => cut(name, MAX_NAME_CHARS)),
  };
}

/** The failure for an answer of this sidecar: adds its name to the way. */
export function comingThrough(failure: ModelFailure, name: string): ModelFailure {
  return { ...failure, way: [name, ...failure.way] };
}

function cut(text: string, maxChars: number): string {
  return text.length <= maxChars ? text : `${text.slice(0, maxChars - 1)}…`;
}

/** JSON in which everything but printable ASCII is escaped. */
function ascii(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** For people: `the model provider one answered 401 to research: Incorrect API key provided`. */
export function describeModelFailure({
  status,
  reason,
  upstream,
  model,
  message,
  way,
}: ModelFailure): string {
  const provider = upstream === '' ? 'the model provider' : `the model provider ${upstream}`;
  const answer = status > 0 ? `answered ${status}` : `gave no answer${reason === '' ? '' : ` (${reason})`}`;
  const agent = way.at(-1);
  const whom = agent === undefined ? '' : ` to ${agent}`;
  return `${provider} ${answer}${whom}${model === '' ? '' : ` for ${model}`}${message === '' ? '' : `: ${message}`}`;
}
