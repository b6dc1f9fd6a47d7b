// A model that answers with text or by calling a tool, in the forms of three APIs, whole or in events.
import type { ServerResponse } from 'node:http';
import { beginStream, type ProviderRequest, sendJson } from '../../scripts/harness/llm/provider.ts';

/** What a model comes to: its text, in pieces, or a call of the tool `add`. */
export type Turn = { readonly pieces: readonly string[] } | { readonly callArguments: string };

interface Form {
  whole(turn: Turn): object;
  /** The stream, in parts that are written one by one; the first has the first piece. */
  events(turn: Turn): string[];
}

const TOOL = 'add';
const CALL_ID = 'call_1';

/** By the path's end, and whether the request brings what a tool has answered. */
function formOf(target: string): Form {
  const [path = ''] = target.split('?', 1);
  if (path.endsWith('/chat/completions')) return chat;
  if (path.endsWith('/messages')) return messages;
  if (path.endsWith('/responses')) return responses;
  if (/:(?:stream)?[gG]enerateContent$/.test(path)) return candidates;
  throw new Error(`no form for ${path}`);
}

export function hasToolResult({ body }: ProviderRequest): boolean {
  return /"role": ?"tool"|"tool_result"|"function_call_output"/.test(body.toString());
}

/** Answers as the request asks: whole, or as a stream. */
export function answer(request: ProviderRequest, response: ServerResponse, turn: Turn): void {
  const form = formOf(request.path);
  const isGeminiStream = request.path.includes(':streamGenerateContent');
  if (request.json?.['stream'] !== true && !isGeminiStream) {
    sendJson(response, 200, form.whole(turn));
    return;
  }
  if (isGeminiStream && !request.path.includes('alt=sse')) {
    sendArray(response, form.events(turn));
    return;
  }
  beginStream(response);
  for (const part of form.events(turn)) response.write(part);
  response.end();
}

/** The events as Gemini sends them without `alt=sse`: the elements of one array, one by one. */
function sendArray(response: ServerResponse, events: readonly string[]): void {
  response.writeHead(200, { 'content-type': 'application/json; charset=UTF-8' });
  const elements = events.map((event) => event.replace(/^data: |\s+$/g, ''));
  elements.forEach((element, at) => {
    response.write(`${at === 0 ? '[' : ',\r\n'}${element}`);
  });
  response.end('\n]\n');
}

/** The beginning of a stream, and no more. */
export function begin(request: ProviderRequest, response: ServerResponse, turn: Turn): void {
  beginStream(response);
  response.write(formOf(request.path).events(turn)[0]);
}

const data = (value: object): string => `data: ${JSON.stringify(value)}\n\n`;
const named = (value: { type: string }): string => `event: ${value.type}\n${data(value)}`;

const chatIds = { id: 'chatcmpl-1', created: 1, model: 'm' };
const chatUsage = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 };

const chat: Form = {
  whole(turn) {
    const message =
      'pieces' in turn
        ? { role: 'assistant', content: turn.pieces.join('') }
        : { role: 'assistant', content: null, tool_calls: [toolCall(turn.callArguments)] };
    const finish_reason = 'pieces' in turn ? 'stop' : 'tool_calls';
    return {
      ...chatIds,
      object: 'chat.completion',
      choices: [{ index: 0, message, finish_reason }],
      usage: chatUsage,
    };
  },
  events(turn) {
    const chunk = (delta: object, finish_reason: string | null = null) =>
      data({ ...chatIds, object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason }] });
    if ('pieces' in turn) {
      const [first, ...rest] = turn.pieces;
      return [
        chunk({ role: 'assistant', content: '' }) + chunk({ content: first }),
        ...rest.map((content) => chunk({ content })),
        `${chunk({}, 'stop')}data: [DONE]\n\n`,
      ];
    }
    const half = Math.ceil(turn.callArguments.length / 2);
    const part = (text: string) => ({ tool_calls: [{ index: 0, function: { arguments: text } }] });
    return [
      chunk({ role: 'assistant', content: null, tool_calls: [{ index: 0, ...toolCall('') }] }),
      chunk(part(turn.callArguments.slice(0, half))),
      chunk(part(turn.callArguments.slice(half))),
      `${chunk({}, 'tool_calls')}data: [DONE]\n\n`,
    ];
  },
};

function toolCall(args: string): object {
  return { id: CALL_ID, type: 'function', function: { name: TOOL, arguments: args } };
}

const geminiUsage = {
  promptTokenCount: 7,
  candidatesTokenCount: 3,
  thoughtsTokenCount: 2,
  cachedContentTokenCount: 4,
  totalTokenCount: 12,
};

/** Gemini ends lines with CR LF, and tells the usage in each event. */
const candidates: Form = {
  whole(turn) {
    return candidate(turn, 'pieces' in turn ? turn.pieces.join('') : '', 'STOP');
  },
  events(turn) {
    const event = (text: string, reason?: string) =>
      `data: ${JSON.stringify(candidate(turn, text, reason))}\r\n\r\n`;
    const pieces = 'pieces' in turn ? turn.pieces : [''];
    return pieces.map((piece, at) => event(piece, at === pieces.length - 1 ? 'STOP' : undefined));
  },
};

function candidate(turn: Turn, text: string, finishReason: string | undefined): object {
  const part =
    'pieces' in turn ? { text } : { functionCall: { name: TOOL, args: JSON.parse(turn.callArguments) } };
  return {
    candidates: [
      { content: { role: 'model', parts: [part] }, index: 0, ...(finishReason && { finishReason }) },
    ],
    usageMetadata: geminiUsage,
    modelVersion: 'gemini-x',
    responseId: 'r-1',
  };
}

const messages: Form = {
  whole(turn) {
    return message(turn, [contentOf(turn)], 'pieces' in turn ? 'end_turn' : 'tool_use');
  },
  events(turn) {
    const isText = 'pieces' in turn;
    const begun = isText ? { type: 'text', text: '' } : { ...contentOf(turn), input: {} };
    const deltas = isText
      ? turn.pieces.map((text) => ({ type: 'text_delta', text }))
      : [{ type: 'input_json_delta', partial_json: turn.callArguments }];
    const [first, ...rest] = deltas.map((delta) =>
      named({ type: 'content_block_delta', index: 0, delta } as { type: string }),
    );
    const start = { type: 'message_start', message: message(turn, [], null) };
    const ended = {
      type: 'message_delta',
      delta: { stop_reason: isText ? 'end_turn' : 'tool_use', stop_sequence: null },
      usage: { output_tokens: 5 },
    };
    const block = { type: 'content_block_start', index: 0, content_block: begun };
    return [
      `${named(start)}${named(block)}${named({ type: 'ping' })}${first}`,
      ...rest,
      named({ type: 'content_block_stop', index: 0 } as { type: string }) + named(ended),
      named({ type: 'message_stop' }),
    ];
  },
};

function message(_turn: Turn, content: object[], stop_reason: string | null): object {
  return {
    id: 'msg_1',
    type: 'message',
    role: 'assistant',
    model: 'm',
    content,
    stop_reason,
    stop_sequence: null,
    usage: { input_tokens: 7, output_tokens: 5 },
  };
}

function contentOf(turn: Turn): object {
  return 'pieces' in turn
    ? { type: 'text', text: turn.pieces.join('') }
    : { type: 'tool_use', id: CALL_ID, name: TOOL, input: JSON.parse(turn.callArguments) };
}

const responses: Form = {
  whole: (turn) => responseObject('completed', [itemOf(turn, 'completed')]),
  events(turn) {
    let sequence_number = 0;
    const event = (type: string, fields: object) =>
      named({ type, sequence_number: sequence_number++, ...fields } as { type: string });
    const begun = responseObject('in_progress', []);
    const place = { item_id: 'item_1', output_index: 0 };
    const start =
      event('response.created', { response: begun }) +
      event('response.in_progress', { response: begun }) +
      event('response.output_item.added', { output_index: 0, item: itemOf(turn, 'in_progress') });
    const item = itemOf(turn, 'completed');
    const end = () => [
      event('response.output_item.done', { output_index: 0, item }),
      event('response.completed', { response: responseObject('completed', [item]) }),
    ];
    if (!('pieces' in turn)) {
      const args = turn.callArguments;
      const begins = start + event('response.function_call_arguments.delta', { ...place, delta: args });
      const done = event('response.function_call_arguments.done', { ...place, name: TOOL, arguments: args });
      return [begins, done, ...end()];
    }
    const text = turn.pieces.join('');
    const part = { ...place, content_index: 0 };
    const [first, ...rest] = turn.pieces;
    const delta = (piece: string | undefined) =>
      event('response.output_text.delta', { ...part, delta: piece, logprobs: [] });
    const begins =
      start + event('response.content_part.added', { ...part, part: textPart('') }) + delta(first);
    return [
      begins,
      ...rest.map(delta),
      event('response.output_text.done', { ...part, text, logprobs: [] }),
      event('response.content_part.done', { ...part, part: textPart(text) }),
      ...end(),
    ];
  },
};

function itemOf(turn: Turn, status: string): object {
  const empty = status === 'in_progress';
  if ('pieces' in turn) {
    const content = empty ? [] : [textPart(turn.pieces.join(''))];
    return { id: 'item_1', type: 'message', status, role: 'assistant', content };
  }
  const args = empty ? '' : turn.callArguments;
  return { id: 'item_1', type: 'function_call', status, call_id: CALL_ID, name: TOOL, arguments: args };
}

function textPart(text: string): object {
  return { type: 'output_text', text, annotations: [], logprobs: [] };
}

function responseObject(status: string, output: object[]): object {
  return {
    id: 'resp_1',
    object: 'response',
    created_at: 1,
    status,
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    model: 'm',
    output,
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    usage:
      status === 'completed'
        ? {
            input_tokens: 7,
            input_tokens_details: { cached_tokens: 0 },
            output_tokens: 5,
            output_tokens_details: { reasoning_tokens: 0 },
            total_tokens: 12,
          }
        : null,
  };
}
