/**
 * Counts of the MCP egress as plain numbers, by server, and by tool; `admin/metrics/` shows them. The names of tools are
 * bounded here, because an agent chooses them.
 */
import { Durations, LLM_BUCKETS } from './durations.ts';

/** The pairs of server and tool, or method, beyond this number share one count. */
const MAX_PAIRS = 200;
const OTHER = '_OTHER';

/** How a request ended. */
export type McpOutcome =
  /** It has a result. */
  | 'success'
  /** The result says that the tool failed (`isError`). */
  | 'tool_error'
  /** The server answered with an error of JSON-RPC or of HTTP. */
  | 'error'
  /** The egress refused it: the tool is not allowed, the request is malformed, or there are too many. */
  | 'refused'
  /** The task has made all of its calls. */
  | 'over_budget'
  /** The effect may have happened, and nobody knows. */
  | 'unknown'
  /** No server was reached, or nothing came back and nothing can have happened. */
  | 'failed'
  /** A time limit ended it. */
  | 'timeout'
  /** The agent, or the end of its task, cancelled it. */
  | 'cancelled'
  /** An earlier call of the same task has the answer. */
  | 'replayed'
  /** Its stream broke off before the answer, and the agent can resume it (`Last-Event-ID`). */
  | 'resumable';

/** The requests to one server for one method, or one tool. */
interface McpCount {
  readonly server: string;
  readonly name: string;
  readonly outcomes: Map<McpOutcome, number>;
  readonly duration: Durations;
}

class Counts {
  private readonly known = new Map<string, McpCount>();

  of(server: string, name: string): McpCount {
    const key = `${server}\n${name}`;
    const found = this.known.get(key);
    if (found !== undefined) return found;
    if (this.known.size >= MAX_PAIRS && name !== OTHER) return this.of(server, OTHER);
    const count = {
      server,
      name,
      outcomes: new Map<McpOutcome, number>(),
      duration: new Durations(LLM_BUCKETS),
    };
    this.known.set(key, count);
    return count;
  }

  values(): Iterable<McpCount> {
    return this.known.values();
  }
}

export class McpStats {
  activeRequests = 0;
  /** Open streams from servers, which the agent has asked for. */
  streams = 0;
  /** Further attempts, by server. */
  readonly retries = new Map<string, number>();
  /** Lists that were answered without the server. */
  cachedLists = 0;
  readonly methods = new Counts();
  readonly tools = new Counts();

  /** @param tool the tool that was called; undefined for other methods */
  ended(
    server: string,
    method: string,
    tool: string | undefined,
    outcome: McpOutcome,
    seconds: number,
  ): void {
    add(this.methods.of(server, method), outcome, seconds);
    if (tool !== undefined) add(this.tools.of(server, tool), outcome, seconds);
  }

  retried(server: string): void {
    this.retries.set(server, (this.retries.get(server) ?? 0) + 1);
  }
}

function add(count: McpCount, outcome: McpOutcome, seconds: number): void {
  count.outcomes.set(outcome, (count.outcomes.get(outcome) ?? 0) + 1);
  count.duration.record(seconds);
}
