/** The MCP servers whose tools an agent's models may call, through the MCP port of its sidecar. */
import { SettingError } from '../process/environment.ts';
import type { CallIds, McpClient } from './mcp-client.ts';
import { isMissing } from './model.ts';
import type { McpSettings } from './settings.ts';
import type { CallLimits, ModelTool, ToolRun, ToolTask } from './tools.ts';

type McpClientModule = typeof import('./mcp-client.ts');

/** How long a list is good for: operators change tools seldom. */
const listMs = 30_000;
const listDeadlineMs = 2_000;

interface KnownTools {
  tools: readonly ModelTool[];
  askedMs: number;
}

/** Shared by the tasks of the agent. */
export class McpServers {
  private readonly settings: McpSettings;
  private readonly module: McpClientModule;
  private readonly known = new Map<string, KnownTools>();

  private constructor(settings: McpSettings, module: McpClientModule) {
    this.settings = settings;
    this.module = module;
  }

  /**
   * Loads the SDK of MCP where servers are configured; undefined without any.
   *
   * @throws SettingError when its package is not installed
   */
  static async load(settings: McpSettings): Promise<McpServers | undefined> {
    if (settings.servers.length === 0) return undefined;
    try {
      return new McpServers(settings, await import('./mcp-client.ts'));
    } catch (error) {
      const name = '@modelcontextprotocol/client';
      if (!isMissing(error, name)) throw error;
      throw new SettingError(`AGENT_MCP needs a package; run "npm install ${name}"`);
    }
  }

  forTask(task: ToolTask): McpSource[] {
    return this.settings.servers.map((name) => {
      const url = `${this.settings.url}/${encodeURIComponent(name)}`;
      return new McpSource(name, new this.module.McpClient(url, task.headers), task, this.known);
    });
  }
}

/** One server for one task. */
export class McpSource {
  readonly name: string;
  private readonly client: McpClient;
  private readonly task: ToolTask;
  private readonly known: Map<string, KnownTools>;

  constructor(name: string, client: McpClient, task: ToolTask, known: Map<string, KnownTools>) {
    this.name = name;
    this.client = client;
    this.task = task;
    this.known = known;
  }

  /** None where the server can't be reached. */
  async list(): Promise<readonly ModelTool[]> {
    const before = this.known.get(this.name);
    const nowMs = performance.now();
    if (before !== undefined && nowMs - before.askedMs < listMs) return before.tools;
    const { signal } = this.task;
    const deadlineMs = Math.min(this.task.deadlineMs, Date.now() + listDeadlineMs);
    const tools = await this.client.list({ signal, deadlineMs }).catch(() => []);
    signal.throwIfAborted();
    // A server that was not there may be there soon.
    if (tools.length > 0) this.known.set(this.name, { tools, askedMs: nowMs });
    return tools;
  }

  async run(name: string, json: string, callId: string, limits: CallLimits): Promise<ToolRun> {
    const startedMs = performance.now();
    const { signal, taskId } = this.task;
    const ids: CallIds = { callId, taskId };
    const args = argumentsOf(json);
    const deadlineMs = Math.min(this.task.deadlineMs, limits.deadlineMs ?? Number.POSITIVE_INFINITY);
    const { text, failed } =
      args === undefined
        ? { text: 'The tool was not called: its arguments must be a JSON object.' }
        : await this.client.call(name, args, ids, { signal, deadlineMs });
    const latency_ms = Math.round(performance.now() - startedMs);
    const call = { tool_name: name, arguments: json, result: text, latency_ms };
    return failed === undefined ? call : { ...call, failed };
  }

  close(): void {
    this.client.close();
  }
}

function argumentsOf(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = json.trim() === '' ? {} : JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
