// Runs of tasks for which agents call tools, and calls as a client of the revision 2026-07-28 writes them.
import { connect, type Socket } from 'node:net';
import type { OwnerCall, OwnerCalls } from '../../sidecar/llm/shared/owner-call.ts';

/** Inbound calls that a request names by the header `x-run`. */
export class TestRuns implements OwnerCalls {
  private readonly calls = new Map<string, OwnerCall>();
  private readonly ends = new Map<string, ((late?: boolean) => void)[]>();
  private readonly overs = new Map<string, ((isFinal: boolean) => void)[]>();

  /** @param run a run of the task, with a name of its own */
  begin(run: string, task: string): void {
    const ends: ((late?: boolean) => void)[] = [];
    const overs: ((isFinal: boolean) => void)[] = [];
    this.ends.set(run, ends);
    this.overs.set(run, overs);
    this.calls.set(run, {
      deadlineMs: Number.POSITIVE_INFINITY,
      callerScope: '',
      taskId: task,
      budget: undefined,
      run: { task, taskId: task, whenOver: (listener) => void overs.push(listener) },
      onEnd: (listener) => {
        ends.push(listener);
        return () => void ends.splice(ends.indexOf(listener), 1);
      },
    });
  }

  /** The run is lost: another one may follow. */
  lose(run: string): void {
    for (const listener of [...this.ends.get(run)!]) listener(false);
    for (const listener of this.overs.get(run)!) listener(false);
    this.calls.delete(run);
  }

  isOver(headers: Parameters<OwnerCalls['find']>[0]): boolean {
    const run = String(headers['x-run']);
    return this.ends.has(run) && !this.calls.has(run);
  }

  find(headers: Parameters<OwnerCalls['find']>[0]): OwnerCall | undefined {
    return this.calls.get(String(headers['x-run']));
  }
}

export interface Said {
  readonly status: number;
  readonly headers: Headers;
  readonly result?: { readonly content: readonly { readonly text: string }[]; readonly isError?: boolean };
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data?: Record<string, unknown>;
  };
}

/** The reason of an answer that the egress has written itself; undefined for one of the server. */
export function reasonOf({ headers }: Said): string | undefined {
  return headers.get('outrigger-reason') ?? undefined;
}

const REVISION = '2026-07-28';
/** What each request of the revision says of itself. */
export const META = {
  'io.modelcontextprotocol/protocolVersion': REVISION,
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1.0.0' },
  'io.modelcontextprotocol/clientCapabilities': {},
};
let ids = 0;

function bodyOf(
  method: string,
  params: { readonly _meta?: object; readonly [key: string]: unknown },
): string {
  const _meta = { ...META, ...params._meta };
  return JSON.stringify({ jsonrpc: '2.0', id: ++ids, method, params: { ...params, _meta } });
}

function headersOf(method: string, name: string | undefined): Record<string, string> {
  return {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': REVISION,
    'mcp-method': method,
    ...(name === undefined ? {} : { 'mcp-name': name }),
  };
}

/** Sends one request and reads its answer, plain or as an event. */
export async function ask(
  url: URL,
  method: string,
  params: { readonly name?: string; readonly arguments?: object; readonly _meta?: object } = {},
  headers: Record<string, string> = {},
): Promise<Said> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...headersOf(method, params.name), ...headers },
    body: bodyOf(method, params),
  });
  const text = await response.text();
  const isEvents = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  const json = isEvents
    ? text
        .split('\n')
        .findLast((line) => line.startsWith('data: {'))
        ?.slice(6)
    : text;
  return { status: response.status, headers: response.headers, ...JSON.parse(json || '{}') };
}

export function callTool(
  url: URL,
  name: string,
  args: object = {},
  headers: Record<string, string> = {},
): Promise<Said> {
  return ask(url, 'tools/call', { name, arguments: args }, headers);
}

/**
 * Calls a tool as an agent that breaks off: it sends so many bytes of its request, or reads so many of the answer.
 * Resolves with whether it got as far as that.
 */
export async function breakOff(
  url: URL,
  name: string,
  args: object,
  headers: Record<string, string>,
  at: { readonly sends?: number; readonly reads?: number },
): Promise<boolean> {
  const body = bodyOf('tools/call', { name, arguments: args });
  const fields = { ...headersOf('tools/call', name), ...headers, 'content-length': String(body.length) };
  const head = Object.entries(fields).map(([field, value]) => `${field}: ${value}\r\n`);
  const text = `POST ${url.pathname} HTTP/1.1\r\nhost: ${url.host}\r\n${head.join('')}\r\n${body}`;
  const socket: Socket = connect({ port: Number(url.port), host: url.hostname, noDelay: true });
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  const { sends, reads = 0 } = at;
  if (sends !== undefined) {
    await new Promise<void>((resolve) => socket.write(text.slice(0, sends), () => resolve()));
    socket.destroy();
    return sends < text.length;
  }
  return await new Promise<boolean>((resolve) => {
    let got = 0;
    socket.on('data', (chunk: Buffer) => {
      got += chunk.length;
      const isWhole = chunk.toString('latin1').trimEnd().endsWith('}') || chunk.includes('\n\n');
      if (got < reads && !isWhole) return;
      socket.destroy();
      resolve(got > reads);
    });
    socket.write(text);
  });
}
