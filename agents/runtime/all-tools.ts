/** The tools of a task from all that have some: the tool runner, and the MCP servers behind the sidecar. */
import type { McpSource } from './mcp-servers.ts';
import type { ModelTool, Tools } from './tools.ts';

/** Of OpenAI for names of functions. */
const longestName = 64;

interface Known {
  readonly source: Pick<Tools, 'run'>;
  /** As the source knows the tool. */
  readonly name: string;
}

/**
 * A tool keeps its name, unless another source has that name or models can't have it: then it is SERVER_NAME. Names depend on
 * nothing but the lists, in the order of the sources.
 */
export function allTools(runner: Tools | undefined, servers: readonly McpSource[]): Tools {
  let known = new Map<string, Known>();

  const list = async (): Promise<ModelTool[]> => {
    const [own = [], ...others] = await Promise.all([
      runner?.list() ?? [],
      ...servers.map((server) => server.list()),
    ]);
    const next = new Map<string, Known>();
    const offered: ModelTool[] = [];
    const add = (tool: ModelTool, name: string, source: Known['source']) => {
      next.set(name, { source, name: tool.function.name });
      offered.push({ type: 'function', function: { ...tool.function, name } });
    };
    for (const tool of own) add(tool, tool.function.name, runner!);
    for (const [at, tools] of others.entries()) {
      const server = servers[at]!;
      for (const tool of tools) add(tool, nameFor(tool.function.name, server.name, next), server);
    }
    known = next;
    return offered;
  };

  return {
    list,
    async run(name, json, callId, limits = {}) {
      if (!known.has(name)) await list();
      const found = known.get(name);
      if (found !== undefined) {
        const run = await found.source.run(found.name, json, callId, limits);
        return { ...run, tool_name: name };
      }
      // The runner knows what it has not.
      if (runner !== undefined) return runner.run(name, json, callId, limits);
      const result = `There is no tool ${name}.`;
      return { tool_name: name, arguments: json, result, latency_ms: 0, failed: result };
    },
  };
}

function nameFor(tool: string, server: string, taken: ReadonlyMap<string, unknown>): string {
  if (/^[a-zA-Z0-9_-]{1,64}$/.test(tool) && !taken.has(tool)) return tool;
  const whole = `${server}_${tool}`.replaceAll(/[^a-zA-Z0-9_-]/g, '_');
  for (let number = 1; ; number++) {
    const end = number === 1 ? '' : `_${number}`;
    const name = whole.slice(0, longestName - end.length) + end;
    if (!taken.has(name)) return name;
  }
}
