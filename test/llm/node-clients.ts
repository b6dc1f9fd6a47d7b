// The clients of providers for Node, unchanged: what each asks, and what its caller has seen so far.
import OpenAI from 'openai';
import { requireTool } from '../../scripts/harness/tool.ts';

interface Asked {
  /** What is asked and how; also the model's name. */
  readonly kind: string;
  /** Ends with `/v1`. */
  readonly base_url: string;
}

interface Seen {
  text: string;
  /** The calls of tools, one behind the other. */
  tool: string;
}

export type NodeAsk = (asked: Asked, seen: Seen, signal: AbortSignal) => Promise<void>;

const QUESTION = { role: 'user' as const, content: 'what is one and two?' };
const SCHEMA = { type: 'object' as const };

/** The client as it comes, unless the case is about its clock. */
function optionsFor(kind: string) {
  const clock = kind.startsWith('hangs') ? { timeout: 1_000, maxRetries: 1 } : {};
  return { apiKey: 'placeholder', logLevel: 'off' as const, ...clock };
}

export const askOpenAi: NodeAsk = async ({ kind, base_url: baseURL }, seen, signal) => {
  const client = new OpenAI({ baseURL, ...optionsFor(kind) });
  const tools = [{ type: 'function' as const, function: { name: 'add', parameters: { type: 'object' } } }];
  const request = { model: kind, messages: [QUESTION], ...(kind.startsWith('tools') ? { tools } : {}) };
  if (kind.endsWith('plain')) {
    const { choices } = await client.chat.completions.create(request, { signal });
    const { message } = choices[0]!;
    seen.text = message.content ?? '';
    for (const call of message.tool_calls ?? [])
      if (call.type === 'function') seen.tool += call.function.name + call.function.arguments;
    return;
  }
  for await (const { choices } of await client.chat.completions.create(
    { ...request, stream: true },
    { signal },
  )) {
    seen.text += choices[0]?.delta.content ?? '';
    for (const { function: call } of choices[0]?.delta.tool_calls ?? [])
      seen.tool += (call?.name ?? '') + (call?.arguments ?? '');
  }
};

/** What this file uses of Anthropic's package, which the tests' install keeps in a folder of its own. */
interface AnthropicPackage {
  readonly default: new (
    options: object,
  ) => {
    readonly messages: {
      create(request: object, options: object): Promise<AnthropicMessage>;
      stream(request: object, options: object): AnthropicStream;
    };
  };
}

interface AnthropicMessage {
  readonly content: readonly Block[];
}

type Block =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'tool_use'; readonly name: string; readonly input: unknown };

interface AnthropicStream {
  on(event: 'text', listener: (text: string) => void): void;
  finalMessage(): Promise<AnthropicMessage>;
}

export const askAnthropic: NodeAsk = async ({ kind, base_url }, seen, signal) => {
  const { default: Anthropic } = (await import(requireTool('anthropic-node'))) as AnthropicPackage;
  const client = new Anthropic({ baseURL: base_url.replace(/\/v1$/, ''), ...optionsFor(kind) });
  const tools = [{ name: 'add', input_schema: SCHEMA }];
  const request = {
    model: kind,
    max_tokens: 100,
    messages: [QUESTION],
    ...(kind.startsWith('tools') ? { tools } : {}),
  };
  if (kind.endsWith('plain')) {
    const { content } = await client.messages.create(request, { signal });
    for (const block of content) note(block, seen);
    return;
  }
  const stream = client.messages.stream(request, { signal });
  stream.on('text', (text) => {
    seen.text += text;
  });
  const { content } = await stream.finalMessage();
  for (const block of content) if (block.type === 'tool_use') note(block, seen);
};

function note(block: Block, seen: Seen): void {
  if (block.type === 'text') seen.text += block.text;
  // With the spaces that the model writes.
  if (block.type === 'tool_use')
    seen.tool += block.name + JSON.stringify(block.input).replaceAll(':', ': ').replaceAll(',', ', ');
}
