/** Judges whether an answer that is whole is also what its operation is asked for. The journal keeps no other one. Pure. */
import { isObject, type JsonObject } from '../../node/json.ts';
import type { Operation } from '../shared/operation.ts';
import { kindOf } from './answer-kind.ts';
import { fieldsOf } from './event-fields.ts';
import { EventScanner } from './event-scanner.ts';

/** Whether one JSON value, or one event of a stream, holds something of the answer, or says that it is finished. */
type Judge = (value: JsonObject) => boolean;

/** Operations that are missing here are never kept. */
const JUDGES: Readonly<Partial<Record<Operation, Judge>>> = {
  chat: hasChoice,
  completions: hasChoice,
  responses: hasOutput,
  messages: hasContent,
  generate: hasCandidate,
  embeddings: ({ data }) => isFilled(data),
  images: ({ data, type, b64_json }) => isFilled(data) || (isTyped(type, 'image_') && isFilled(b64_json)),
  embed: ({ embedding, embeddings }) => isObject(embedding) || isFilled(embeddings),
  count_tokens: ({ input_tokens, totalTokens }) =>
    typeof input_tokens === 'number' || typeof totalTokens === 'number',
};

/** @param body the whole answer; the egress has checked that nothing of it is missing */
export function isRealAnswer(operation: Operation, body: Buffer): boolean {
  const judge = JUDGES[operation];
  if (judge === undefined) return false;
  const kind = kindOf(body);
  if (kind === 'events') return hasRealEvent(body, judge);
  return kind === 'json' && isReal(parsed(withoutMark(body.toString('utf8'))), judge);
}

/** A stream may be one JSON array. */
function isReal(value: unknown, judge: Judge): boolean {
  if (Array.isArray(value)) return value.some((element) => isObject(element) && judge(element));
  return isObject(value) && judge(value);
}

function hasRealEvent(body: Buffer, judge: Judge): boolean {
  let isFound = false;
  const scanner = new EventScanner(body.length);
  const check = (buffer: Buffer, start: number, end: number): void => {
    // The first events of nearly all streams tell.
    if (isFound) return;
    const { data = '' } = fieldsOf(buffer, start, end, start === 0);
    if (data.trimStart().startsWith('{')) isFound = isReal(parsed(data), judge);
  };
  scanner.push(body, { onEvent: check, onPart: () => {} });
  const rest = scanner.takeUnfinished();
  check(rest, 0, rest.length);
  return isFound;
}

/** A choice with a text, a call of a tool, a refusal, or the reason why it ended. */
function hasChoice({ choices }: JsonObject): boolean {
  return (
    Array.isArray(choices) &&
    choices.some((choice) => {
      if (!isObject(choice)) return false;
      const { message, delta, text, finish_reason } = choice;
      return isFilled(finish_reason) || isFilled(text) || saysSomething(message) || saysSomething(delta);
    })
  );
}

function saysSomething(message: unknown): boolean {
  if (!isObject(message)) return false;
  for (const name in message) if (name !== 'role' && isFilled(message[name])) return true;
  return false;
}

/** What ends a response without output: its bounds, or that the provider goes on with it in the background. */
const WITHOUT_OUTPUT: ReadonlySet<unknown> = new Set(['incomplete', 'queued', 'in_progress']);

function hasOutput(value: JsonObject): boolean {
  const { type, response, output, status } = value;
  // The events of a stream: its items and their parts, or the response as it is at the end.
  if (isObject(response)) {
    if (isTyped(type, 'response.incomplete')) return true;
    return isFilled(response['output']);
  }
  if (isTyped(type, 'response.')) return isFilled(value['item']) || isFilled(value['delta']);
  return isFilled(output) || (WITHOUT_OUTPUT.has(status) && isFilled(value['id']));
}

/** A message may end its turn without a word. */
function hasContent({ type, content, stop_reason, content_block, delta }: JsonObject): boolean {
  if (isFilled(content) || isFilled(stop_reason)) return true;
  if (type === 'content_block_start') return isObject(content_block);
  return isObject(delta) && (isFilled(delta['stop_reason']) || isTyped(delta['type'], ''));
}

/** A prompt that is blocked has no candidates, and will have none. */
function hasCandidate({ candidates, promptFeedback }: JsonObject): boolean {
  if (isObject(promptFeedback) && isFilled(promptFeedback['blockReason'])) return true;
  return (
    Array.isArray(candidates) &&
    candidates.some(
      (candidate) =>
        isObject(candidate) && (isFilled(candidate['finishReason']) || isObject(candidate['content'])),
    )
  );
}

/** A text, a list or an object with something in it. */
function isFilled(value: unknown): boolean {
  if (typeof value === 'string' || Array.isArray(value)) return value.length > 0;
  return isObject(value) && Object.keys(value).length > 0;
}

const isTyped = (type: unknown, start: string): boolean => typeof type === 'string' && type.startsWith(start);

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function withoutMark(text: string): string {
  return text.startsWith('\uFEFF') ? text.slice(1) : text;
}
