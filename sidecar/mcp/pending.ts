/** The requests of one exchange that wait for their answers, and what the answers show. */

import type { McpOutcome } from '../telemetry/mcp-stats.ts';
import {
  idKey,
  isObject,
  type Json,
  type JsonObject,
  messageOf,
  type RequestMessage,
} from './message/json-rpc.ts';
import type { McpRequest } from './message/mcp-request.ts';
import { cacheKey } from './server/list-cache.ts';
import type { McpServer } from './server/mcp-server.ts';

export class Pending {
  /** How the last answered request ended. */
  outcome: McpOutcome = 'success';
  errorCode: number | undefined = undefined;
  /** The answer to the last call of a tool. */
  callAnswer: JsonObject | undefined = undefined;
  private readonly server: McpServer;
  private readonly waiting = new Map<string, RequestMessage>();
  private readonly keys: (request: RequestMessage) => string | undefined;
  private readonly changes: number;
  private readonly nowMs: () => number;

  constructor(server: McpServer, { requests, revision }: McpRequest, who: () => string, nowMs: () => number) {
    this.server = server;
    this.nowMs = nowMs;
    this.changes = server.lists.changes;
    this.keys = (request) => cacheKey(request, revision.name, who);
    for (const request of requests) this.waiting.set(idKey(request.id), request);
  }

  get isEmpty(): boolean {
    return this.waiting.size === 0;
  }

  get requests(): Iterable<RequestMessage> {
    return this.waiting.values();
  }

  /** Takes messages of the server; returns them as the agent receives them, and the same value where nothing changes. */
  takeAll(json: Json): Json {
    if (!Array.isArray(json)) return this.take(json);
    const taken = json.map((one) => this.take(one));
    return taken.every((one, index) => one === json[index]) ? json : taken;
  }

  private take(json: Json): Json {
    const message = messageOf(json);
    if (message === undefined || !isObject(json)) return json;
    if (message.kind === 'notification') this.server.notified(message.method);
    if (message.kind !== 'response' || message.id === undefined) return json;
    const request = this.waiting.get(idKey(message.id));
    if (request === undefined) return json;
    this.waiting.delete(idKey(message.id));
    const { result, error } = message;
    if (request.method === 'tools/call') this.callAnswer = json;
    this.outcome = error !== undefined ? 'error' : result?.['isError'] === true ? 'tool_error' : 'success';
    if (typeof error?.['code'] === 'number') this.errorCode = error['code'];
    if (result === undefined) return json;
    const shown = request.method === 'tools/list' ? this.allowedOf(result) : result;
    this.keep(request, shown);
    return shown === result ? json : { ...json, result: shown };
  }

  /** A list without the tools that the agent may not call. */
  private allowedOf(result: JsonObject): JsonObject {
    const { tools } = result;
    if (!Array.isArray(tools)) return result;
    this.server.hints.learn(tools);
    if (this.server.allowsAll) return result;
    const allowed = tools.filter(
      (tool) => isObject(tool) && typeof tool['name'] === 'string' && this.server.allows(tool['name']),
    );
    return allowed.length === tools.length ? result : { ...result, tools: allowed };
  }

  private keep(request: RequestMessage, result: JsonObject): void {
    if (typeof result['ttlMs'] !== 'number') return;
    const key = this.keys(request);
    if (key === undefined) return;
    const { method } = request;
    const bytes = JSON.stringify(result).length;
    this.server.lists.keep(key, { method, result, bytes, changes: this.changes }, this.nowMs());
  }
}
