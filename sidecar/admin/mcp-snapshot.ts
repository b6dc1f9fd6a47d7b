/** The state of the MCP egress, for `/stats` and `/live`. It never holds a key, and its URLs are redacted. */
import { redactUrl } from '../config/redact.ts';
import type { Sidecar } from '../data-plane/sidecar.ts';

/** Null without a tool server. */
export function mcpSnapshot({ mcp, config }: Sidecar) {
  const { servers } = config.mcp;
  if (servers.size === 0) return null;
  const { stats } = mcp;
  const known = new Map(Array.from(mcp.egress?.all ?? [], (server) => [server.name, server]));
  return {
    address: mcp.address,
    active_requests: stats.activeRequests,
    streams: stats.streams,
    cached_lists: stats.cachedLists,
    servers: Array.from(servers, ([name, { url, tools, trustHints }]) => {
      const server = known.get(name);
      return {
        name,
        url: redactUrl(url),
        tools,
        trust_hints: trustHints,
        state: (server?.breaker.state ?? 'closed').replace('_', '-'),
        rejections: server?.breaker.rejections ?? 0,
        active_requests: server?.activeRequests ?? 0,
        retries: stats.retries.get(name) ?? 0,
        last_error: server?.lastError ?? '',
      };
    }),
    tools: Array.from(stats.tools.values(), ({ server, name, outcomes }) => ({
      server,
      tool: name,
      outcomes: Object.fromEntries(outcomes),
    })),
  };
}
