/**
 * Answers `GET …/models` for all upstreams together: the names of `llm.models`, and what the providers list of the models that a
 * pattern takes, or of all models where there are no rules. A provider that can't be asked is left out, and named in a header.
 */
import { isObject, type JsonObject } from '../../node/json.ts';
import { NO_UPSTREAM } from '../../telemetry/llm-stats.ts';
import { refuse } from '../caller/refusals.ts';
import type { Sink } from '../caller/sink.ts';
import { apiOf } from '../kinds/operations.ts';
import type { ModelListForm } from '../kinds/traits.ts';
import { startRelay } from '../relay/start-relay.ts';
import { infoOf, type ModelRequest } from '../request/model-request.ts';
import { bodyOf } from '../shared/body.ts';
import { isGlob, matcherOf } from '../shared/model-pattern.ts';
import { headersFor, takesCallers } from '../shared/provider-credentials.ts';
import type { EgressContext } from './egress-context.ts';
import { homeName, speakersOf, type Upstream } from './upstream.ts';

/** How long a provider may take for its list. */
const LIST_MS = 5_000;
/** No list of a provider is longer. */
const MAX_LIST_BYTES = 8_388_608;

/** What the record of a list has beside its end. */
const NO_TOKENS = {
  upstream: NO_UPSTREAM,
  isReplayed: false,
  responseModel: undefined,
  responseId: undefined,
  finishReason: undefined,
  inputTokens: 0,
  outputTokens: 0,
  wastedTokens: 0,
  tokensAreExact: true,
  costNanos: 0,
  firstByteMs: 0,
} as const;

/** One list, or why there is none. */
type Listed = readonly JsonObject[] | string;

/** Whether the egress writes the list itself: there are rules, or several upstreams have one. */
export function mergesModels({ routes, upstreams }: EgressContext, request: ModelRequest): boolean {
  const { asked, facts, method } = request;
  if (facts.operation !== 'models' || method !== 'GET') return false;
  if (asked.path.split('?', 1)[0] !== '/models') return false;
  if (request.client?.isRestricted === true) return true;
  return routes.rules.length > 0 || speakersOf(asked, upstreams).length > 1;
}

/** @returns a function that ends the work, because the caller has left */
export function answerModels(context: EgressContext, request: ModelRequest, sink: Sink): () => void {
  const { asked } = request;
  const observer = context.observer?.begin(infoOf(request));
  const form = apiOf(asked.api).models;
  const home = homeName(asked);
  const aborter = new AbortController();
  const onEnd = (status: number, reason: string): void => {
    const outcome = reason === '' ? 'success' : 'failed';
    const durationMs = context.clock() - request.receivedMs;
    context.stats.ended(context.stats.of(NO_UPSTREAM, ''), '', outcome, durationMs / 1000);
    request.visit?.settle(0);
    request.dropBody();
    const attempts = lists.size;
    observer?.onEnd({ ...NO_TOKENS, info: infoOf(request), outcome, reason, status, attempts, durationMs });
  };
  const lists = new Map<Upstream, Promise<Listed>>();
  const listOf = (upstream: Upstream): Promise<Listed> => {
    let list = lists.get(upstream);
    if (list === undefined) {
      list = listAt(upstream, request, form, aborter.signal);
      lists.set(upstream, list);
    }
    return list;
  };
  const { rules } = context.routes;
  const parts: Promise<readonly JsonObject[]>[] = rules.map(async ({ settings, chains }) => {
    const { targets } = chains.get(home)!;
    if (targets.length === 0) return [];
    if (!isGlob(settings.match)) return [form.entry(settings.match)];
    const matches = matcherOf(settings.match);
    const found = await Promise.all(
      // Others would answer in the form of another API.
      targets.map(({ model, upstream }) =>
        model === undefined && upstream.apis.has(asked.api) ? listOf(upstream) : [],
      ),
    );
    return found.flatMap((list) =>
      typeof list === 'string' ? [] : list.filter((one) => matches(form.idOf(one))),
    );
  });
  if (rules.length === 0)
    for (const upstream of speakersOf(asked, context.upstreams))
      parts.push(listOf(upstream).then((list) => (typeof list === 'string' ? [] : list)));
  void Promise.all(parts).then(async (entries) => {
    const byId = new Map<string, JsonObject>();
    const { client } = request;
    for (const entry of entries.flat()) {
      const id = form.idOf(entry);
      if (!byId.has(id) && client?.mayName(id) !== false) byId.set(id, entry);
    }
    const failed: string[] = [];
    for (const [{ name }, list] of lists) {
      const listed = await list;
      if (typeof listed === 'string') failed.push(`${name}: ${listed}`);
    }
    if (aborter.signal.aborted) return;
    if (byId.size === 0 && failed.length > 0) {
      const message = `no provider gives its list of models; ${failed.join('; ')}`;
      refuse(sink, 'upstream_failed', message, { api: asked.api });
      onEnd(502, 'upstream_failed');
      return;
    }
    const body = Buffer.from(JSON.stringify(form.list([...byId.values()])));
    sink.head(200, {
      'content-type': 'application/json',
      'content-length': String(body.length),
      ...(failed.length > 0
        ? { 'outrigger-missing': failed.map((one) => one.split(':', 1)[0]!).join(', ') }
        : {}),
    });
    sink.write(body);
    sink.end();
    onEnd(200, '');
  });
  return () => {
    aborter.abort();
    request.visit?.settle(0);
    request.dropBody();
  };
}

function listAt(
  upstream: Upstream,
  request: ModelRequest,
  form: ModelListForm,
  signal: AbortSignal,
): Promise<Listed> {
  const recipient = upstream.recipient(request.asked);
  const headers = headersFor(request.headers, recipient);
  for (const name of ['connection', 'transfer-encoding', 'content-type', 'content-encoding'])
    delete headers[name];
  headers['accept-encoding'] = 'identity';
  upstream.addHeaders(headers);
  const version = takesCallers(recipient) ? request.path.slice('/models'.length) : '';
  const path = upstream.pathOf({ ...request.asked, path: `/models${version || form.query}` }, '');
  const { protocol, hostname, port, connections } = upstream;
  const { agent } = connections;
  const body = bodyOf(Buffer.alloc(0));
  const asked = { method: 'GET', protocol, hostname, port, path, agent, headers, body };
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    let answered = 0;
    const done = (list: Listed): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', leave);
      resolve(list);
    };
    const leave = (because: Event | string): void => {
      relay.abort();
      done(typeof because === 'string' ? because : 'the caller has left');
    };
    const timer = setTimeout(leave, LIST_MS, 'no answer in time').unref();
    const relay = startRelay(connections, asked, {
      onConnected() {},
      onHead(status) {
        answered = status;
      },
      onData(part) {
        bytes += part.length;
        parts.push(part);
        if (bytes > MAX_LIST_BYTES) leave('its list is too long');
      },
      onEnd: () => done(answered === 200 ? entriesIn(Buffer.concat(parts), form) : `answered ${answered}`),
      onError: ({ code }) => done(code),
      onUnusable: (what) => done(`answered ${what}`),
    });
    if (signal.aborted) leave('the caller has left');
    else signal.addEventListener('abort', leave, { once: true });
  });
}

function entriesIn(body: Buffer, form: ModelListForm): Listed {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    return 'its list is no JSON';
  }
  const entries = isObject(value) ? value[form.key] : undefined;
  if (!Array.isArray(entries)) return 'it gives no list';
  return entries.filter((one) => isObject(one) && typeof one[form.id] === 'string') as JsonObject[];
}
