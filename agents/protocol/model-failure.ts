/** A model's failure as metadata of a call. */
import type { Metadata } from '@grpc/grpc-js';

/** Why a task's model did not answer: reported by a sidecar, which saw the request, or by the agent. */
export interface ModelFailure {
  /** HTTP status of the provider's answer; 0 when it gave none. */
  status: number;
  /** `outrigger-reason` if the sidecar answered instead of the provider; '' otherwise. */
  reason: string;
  /** The provider's name in the sidecar's configuration; '' when unknown. */
  upstream: string;
  path: string;
  model: string;
  /** The provider's own message, without keys; '' when it sent none. */
  message: string;
  /** The sidecars that reported it, in the order of the call: the first one's agent was called first. */
  way: string[];
}

/** Sidecars use the first field. Agents use the second one, which counts if no sidecar reports anything. */
const sidecarField = 'outrigger-model-failure';
export const agentField = 'agent-error-model';

const longestFieldChars = 4096;
const longestMessageChars = 300;
const longestNameChars = 128;
const mostHops = 16;

/** Undefined when the trailers report no model failure. */
export function modelFailureIn(metadata: Metadata | undefined): ModelFailure | undefined {
  for (const name of [sidecarField, agentField]) {
    // The last value is the sidecar's own.
    const text = metadata?.get(name).at(-1);
    const read = typeof text === 'string' ? parse(text) : undefined;
    if (read !== undefined) return read;
  }
  return undefined;
}

/** Formats it as one metadata field: JSON in printable ASCII. Unknown parts are omitted. */
export function formatModelFailure(failure: ModelFailure): string {
  const { status, reason, upstream, path, model, message, way } = failure;
  const known = Object.entries({ status, reason, upstream, path, model, message, way }).filter(
    ([, value]) => value !== '' && value !== 0,
  );
  return JSON.stringify(Object.fromEntries(known)).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** `the model provider openai answered HTTP 401 to /v1/chat/completions (gpt-4o): Incorrect API key provided` */
export function describeModelFailure({
  status,
  reason,
  upstream,
  path,
  model,
  message,
}: ModelFailure): string {
  const what = [path && `to ${path}`, model && `(${model})`];
  const provider = ['the model provider', upstream];
  let parts: string[];
  if (status > 0) parts = [...provider, `answered HTTP ${status}`, ...what];
  else if (reason === '') parts = [...provider, 'did not answer', ...what];
  else if (upstream === '') parts = [`the sidecar refused a request to the model [${reason}]`];
  else parts = [...provider, 'did not answer', ...what, `[${reason}]`];
  return parts.filter(Boolean).join(' ') + (message === '' ? '' : `: ${message}`);
}

function parse(text: string): ModelFailure | undefined {
  if (text.length > longestFieldChars) return undefined;
  let read: Record<string, unknown> | null;
  try {
    read = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    return undefined;
  }
  if (typeof read !== 'object' || read === null) return undefined;
  const words = (name: string, longest: number) =>
    typeof read[name] === 'string' ? read[name].slice(0, longest) : '';
  const { status, way } = read;
  return {
    status: Number.isInteger(status) ? Number(status) : 0,
    reason: words('reason', longestNameChars),
    upstream: words('upstream', longestNameChars),
    path: words('path', longestNameChars),
    model: words('model', longestNameChars),
    message: words('message', longestMessageChars),
    way: Array.isArray(way)
      ? way.slice(0, mostHops).map((name) => String(name).slice(0, longestNameChars))
      : [],
  };
}
