/** Answers that call one of the request's tools, in the formats of both text endpoints. */
import type { StreamEvent } from './send.ts';

/** A call of a tool, as a rule of faults.ts asks for it. */
export interface ToolCall {
  name: string;
  /** JSON. */
  arguments: string;
}

/** A sum that somebody asks for: numbers and signs, with one sign at least between two numbers. */
const sum = /(?:^|[\s:=])([(\d][\d\s().]{0,60}[-+*/%](?:[-\d\s().+*/%]{0,60})[\d)])(?=$|[\s?.!,])/;

/** The call by which the offline provider answers such a question, where it may run Python. */
export function sumFor(question: string, tools: readonly string[]): ToolCall | undefined {
  const found = tools.includes('python') ? sum.exec(question)?.[1]?.trim() : undefined;
  if (found === undefined || !/\b(?:calculate|compute|how much|what is|sum)\b/i.test(question))
    return undefined;
  return { name: 'python', arguments: JSON.stringify({ code: `print(${found})` }) };
}

/** `message` of a chat completion that calls the tools. */
export function callingMessage(calls: readonly ToolCall[], id: string): object {
  const toolCalls = calls.map(({ name, arguments: json }, index) => ({
    id: callId(id, index),
    type: 'function',
    function: { name, arguments: json },
  }));
  return { role: 'assistant', content: null, refusal: null, annotations: [], tool_calls: toolCalls };
}

/** The deltas of a streamed chat completion that calls the tools: a name first, then its arguments in two pieces. */
export function* callingDeltas(calls: readonly ToolCall[], id: string) {
  for (const [index, { name, arguments: json }] of calls.entries()) {
    const begin = { index, id: callId(id, index), type: 'function', function: { name, arguments: '' } };
    yield index === 0 ? { role: 'assistant', content: null, tool_calls: [begin] } : { tool_calls: [begin] };
    for (const piece of halvesOf(json)) yield { tool_calls: [{ index, function: { arguments: piece } }] };
  }
}

function callId(id: string, index: number): string {
  return index === 0 ? `call_${id}` : `call_${id}_${index}`;
}

/** The item of a response that calls the tool. */
export function callingItem(call: ToolCall, id: string, status: string): object {
  const json = status === 'in_progress' ? '' : call.arguments;
  return {
    id: `fc_${id}`,
    type: 'function_call',
    status,
    call_id: `call_${id}`,
    name: call.name,
    arguments: json,
  };
}

/** The events between `response.in_progress` and `response.completed`. */
export function* callingEvents(
  call: ToolCall,
  id: string,
  event: (type: string, fields: object) => StreamEvent,
): Generator<StreamEvent> {
  const place = { item_id: `fc_${id}`, output_index: 0 };
  const item = (status: string) => ({ output_index: 0, item: callingItem(call, id, status) });
  yield event('response.output_item.added', item('in_progress'));
  for (const delta of halvesOf(call.arguments))
    yield event('response.function_call_arguments.delta', { ...place, delta });
  yield event('response.function_call_arguments.done', {
    ...place,
    name: call.name,
    arguments: call.arguments,
  });
  yield event('response.output_item.done', item('completed'));
}

function halvesOf(text: string): string[] {
  const middle = Math.ceil(text.length / 2);
  return [text.slice(0, middle), text.slice(middle)];
}
