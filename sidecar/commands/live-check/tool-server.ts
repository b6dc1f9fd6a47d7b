/** Looks at one tool server: whether it can be reached, takes the key, and has the tools that the agent may call. */
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Config } from '../../config/config.ts';
import type { Path } from '../../config/problems.ts';
import { matcherOf } from '../../llm/shared/model-pattern.ts';
import { readEvent } from '../../mcp/message/events.ts';
import { isObject, type JsonObject, parseJson } from '../../mcp/message/json-rpc.ts';
import { isLiteral } from '../../net/address.ts';
import { unresolved } from './endpoint.ts';
import { type LiveResult, LOOK_MS, ok, problem, warning, within } from './finding.ts';

type Server = NonNullable<ReturnType<Config['mcp']['servers']['get']>>;

export interface ToolServerToAsk {
  readonly path: Path;
  readonly server: Server;
  readonly key: string | undefined;
}

interface Answer {
  readonly status: number;
  readonly session: string | undefined;
  readonly result: JsonObject | undefined;
}

const EARLIER = '2025-11-25';
const STATELESS = '2026-07-28';
const CLIENT = { name: 'outrigger-check', version: '1.0.0' };
const MAX_ANSWER_BYTES = 8_388_608;

export async function lookAtToolServer(asked: ToolServerToAsk): Promise<LiveResult[]> {
  const { path, server } = asked;
  const url = new URL(server.url);
  const target = `${url.protocol}//${url.host}${url.pathname}`;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const unknown = isLiteral(host) ? undefined : await unresolved([...path, 'url'], host);
  if (unknown !== undefined) return [unknown];
  const late = `there is no answer within ${LOOK_MS / 1000} s`;
  const answer = await within<Answer | string>(LOOK_MS, toolsOf(asked, url), late);
  const sent = `POST ${target}, which asks for its tools${asked.key === undefined ? '' : ' with its key'}`;
  return [{ ...judge(path, target, server, answer), sent }];
}

function judge(path: Path, target: string, { tools }: Server, answer: Answer | string): LiveResult {
  const urlPath = [...path, 'url'];
  if (typeof answer === 'string')
    return problem(urlPath, target, answer, 'start the server, or correct its url, the network policy or ca');
  const { status, result } = answer;
  if (status === 401 || status === 403)
    return problem(
      path,
      target,
      `it refuses us (${status})`,
      'set api_key_env or api_key_file to a valid key',
    );
  const listed = result?.['tools'];
  if (!Array.isArray(listed))
    return problem(
      urlPath,
      target,
      `it answers (${status}), and lists no tools`,
      'check the path of the url',
    );
  const names = listed.flatMap((tool) =>
    isObject(tool) && typeof tool['name'] === 'string' ? [tool['name']] : [],
  );
  // A long list comes in pages, of which this is the first.
  const isWhole = result?.['nextCursor'] === undefined;
  const none = isWhole ? tools.filter((pattern) => !names.some(matcherOf(pattern))) : [];
  if (none.length > 0) {
    const message = `it has no tool for ${none.slice(0, 10).join(', ')}; it has ${names.slice(0, 20).join(', ') || 'none'}`;
    return warning([...path, 'tools'], target, message, 'correct the names');
  }
  const allowed = names.filter((name) => tools.some((pattern) => matcherOf(pattern)(name))).length;
  return ok(path, target, `it answers; the agent may call ${allowed} of its ${names.length} tools`);
}

/** Asks as a client of the earlier revisions does, and without a session where the server has none of them. */
async function toolsOf(asked: ToolServerToAsk, url: URL): Promise<Answer | string> {
  const params = { protocolVersion: EARLIER, capabilities: {}, clientInfo: CLIENT };
  const begun = await post(asked, url, {}, { id: 1, method: 'initialize', params });
  if (typeof begun === 'string' || begun.status === 401 || begun.status === 403) return begun;
  const { session, result } = begun;
  if (result === undefined) {
    const ours = 'io.modelcontextprotocol';
    const meta = {
      [`${ours}/protocolVersion`]: STATELESS,
      [`${ours}/clientInfo`]: CLIENT,
      [`${ours}/clientCapabilities`]: {},
    };
    const fields = { 'mcp-protocol-version': STATELESS, 'mcp-method': 'tools/list' };
    return post(asked, url, fields, { id: 2, method: 'tools/list', params: { _meta: meta } });
  }
  const revision = typeof result['protocolVersion'] === 'string' ? result['protocolVersion'] : EARLIER;
  const fields: Record<string, string> = { 'mcp-protocol-version': revision };
  if (session !== undefined) fields['mcp-session-id'] = session;
  await post(asked, url, fields, { method: 'notifications/initialized' });
  const listed = await post(asked, url, fields, { id: 2, method: 'tools/list', params: {} });
  if (session !== undefined) await send(asked, url, 'DELETE', fields, '');
  return listed;
}

function post(asked: ToolServerToAsk, url: URL, fields: Record<string, string>, message: JsonObject) {
  return send(asked, url, 'POST', fields, JSON.stringify({ jsonrpc: '2.0', ...message }));
}

/** Resolves with why there is no answer. */
function send(
  { server, key }: ToolServerToAsk,
  url: URL,
  method: string,
  fields: Record<string, string>,
  body: string,
): Promise<Answer | string> {
  return new Promise((resolve) => {
    const isTls = url.protocol === 'https:';
    const headers = {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...server.headers,
      ...fields,
    };
    const ca = isTls && server.ca !== undefined ? { ca: readFileSync(server.ca) } : {};
    const request = (isTls ? httpsRequest : httpRequest)(url, { method, headers, agent: false, ...ca });
    request.on('response', (response) => {
      const { statusCode: status = 0, headers: got } = response;
      const session = typeof got['mcp-session-id'] === 'string' ? got['mcp-session-id'] : undefined;
      let text = '';
      response.setEncoding('utf8');
      const end = (): void => resolve({ status, session, result: resultIn(text) });
      response.on('data', (part: string) => {
        text += part;
        // A stream may stay open behind its answer.
        if (text.length > MAX_ANSWER_BYTES || resultIn(text) !== undefined) {
          end();
          response.destroy();
        }
      });
      response.on('end', end);
      response.on('error', end);
    });
    request.on('error', ({ code, message }: NodeJS.ErrnoException) =>
      resolve(`it can not be asked: ${code ?? message}`),
    );
    request.setTimeout(LOOK_MS, () => request.destroy());
    request.end(body);
  });
}

/** The result in an answer, plain or as an event. */
function resultIn(text: string): JsonObject | undefined {
  const plain = text.startsWith('{')
    ? [parseJson(text)]
    : text.split('\n\n').map((one) => readEvent(one).json);
  for (const json of plain) if (isObject(json) && isObject(json['result'])) return json['result'];
  return undefined;
}
