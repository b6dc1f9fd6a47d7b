// The official clients of MCP, unchanged, behind one interface.
import { dirname, join } from 'node:path';
import { requireTool } from '../../scripts/harness/tool.ts';

interface ToolAnswer {
  readonly content: readonly { readonly type: string; readonly text?: string }[];
  readonly isError?: boolean;
  readonly _meta?: Record<string, unknown>;
}

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: { readonly message?: string }) => void;
}

interface McpClient {
  tools(): Promise<string[]>;
  call(name: string, args?: object, options?: CallOptions): Promise<ToolAnswer>;
  revision(): string | undefined;
  close(): Promise<void>;
  /** Ends the session at the server. */
  terminate(): Promise<void>;
  onToolsChanged: () => void;
}

export type Connect = (url: URL, headers?: Record<string, string>) => Promise<McpClient>;

const NAME = { name: 'test', version: '1.0.0' };

/** The client of today. */
function today(options: object): Connect {
  return async (url, headers = {}) => {
    const sdk = await import(requireTool('mcp-node'));
    const client = new sdk.Client(NAME, { capabilities: { elicitation: {} }, ...options });
    client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { name: 'you' } }));
    const transport = new sdk.StreamableHTTPClientTransport(url, { requestInit: { headers } });
    const mine = { onToolsChanged: () => {} };
    client.setNotificationHandler('notifications/tools/list_changed', () => mine.onToolsChanged());
    await client.connect(transport);
    return Object.assign(mine, {
      tools: async () => (await client.listTools()).tools.map(({ name }: { name: string }) => name),
      call: (name: string, args: object = {}, more?: CallOptions) =>
        client.callTool({ name, arguments: args }, more),
      revision: () => client.getNegotiatedProtocolVersion(),
      close: () => client.close(),
      terminate: () => transport.terminateSession(),
    });
  };
}

/** The one before, which many agents use. */
const before: Connect = async (url, headers = {}) => {
  const file = requireTool('mcp-node-v1');
  const { Client } = await import(file);
  const { StreamableHTTPClientTransport } = await import(join(dirname(file), 'streamableHttp.js'));
  const { ElicitRequestSchema, ToolListChangedNotificationSchema } = await import(
    join(dirname(dirname(file)), 'types.js')
  );
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
  const client = new Client(NAME, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { name: 'you' } }));
  const mine = { onToolsChanged: () => {} };
  client.setNotificationHandler(ToolListChangedNotificationSchema, () => mine.onToolsChanged());
  await client.connect(transport);
  return Object.assign(mine, {
    tools: async () => (await client.listTools()).tools.map(({ name }: { name: string }) => name),
    call: (name: string, args: object = {}, more?: CallOptions) =>
      client.callTool({ name, arguments: args }, undefined, more),
    revision: () => transport.protocolVersion,
    close: () => client.close(),
    terminate: () => transport.terminateSession(),
  });
};

export const modern: Connect = today({ versionNegotiation: { mode: 'auto' } });

/** Those of the revisions with sessions. */
export const earlier: Readonly<Record<string, Connect>> = {
  '2025-11-25': today({ versionNegotiation: { mode: 'legacy' } }),
  '2025-06-18': today({ supportedProtocolVersions: ['2025-06-18'] }),
  'the client before': before,
};
