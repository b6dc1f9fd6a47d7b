/** The model client of one task. */
import type OpenAI from 'openai';
import type { TaskRequest } from '../protocol/messages.ts';
import { AgentError } from './errors.ts';
import type { ModelSettings } from './settings.ts';

type ModelClientModule = typeof import('./model-client.ts');

let modelClient: ModelClientModule | undefined;

/**
 * Loads the openai package for `createModelClient`. An agent that asks its model in another way need not install it.
 *
 * @throws whatever loading an installed package throws
 */
export async function loadModelClient(): Promise<void> {
  try {
    modelClient = await import('./model-client.ts');
  } catch (error) {
    if (!isMissing(error, 'openai')) throw error;
  }
}

/** @throws AgentError INTERNAL when the openai package is not installed */
export function createModelClient(
  settings: ModelSettings,
  signal: AbortSignal,
  headers: Record<string, string>,
): OpenAI {
  if (modelClient === undefined) {
    const message = 'the agent uses context.openai without the openai package; run "npm install openai"';
    throw new AgentError('INTERNAL', message);
  }
  return new modelClient.ModelClient(settings, signal, headers);
}

/** Whether an optional package is not installed. */
export function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return code === 'ERR_MODULE_NOT_FOUND' && String(message).includes(`'${name}'`);
}

/** The request fields that come from the task and the settings, not from the agent. */
export interface ModelOptions {
  model: string;
  max_tokens?: number;
  temperature?: number;
}

/** proto3 cannot distinguish 0 from "not set", so 0 leaves the choice to the provider. */
export function modelOptions(settings: ModelSettings, task: TaskRequest): ModelOptions {
  return {
    model: settings.name,
    ...(task.max_tokens > 0 ? { max_tokens: task.max_tokens } : {}),
    // A float32 on the wire: 0.7 arrives as 0.699999988.
    ...(task.temperature > 0 ? { temperature: Math.round(task.temperature * 1e6) / 1e6 } : {}),
  };
}

/** The relevant fields of a streamed chat completion. */
interface CompletionChunk {
  choices?: ({ delta?: { content?: string | null } | null; finish_reason: string | null } | null)[];
}

/**
 * The text of a streamed chat completion, or of the completions of one run with tools.
 *
 * @throws AgentError UNAVAILABLE if the last one ends without a finish_reason: a provider or proxy that breaks off can close the
 * connection cleanly, and half an answer must not pass for a whole one
 */
export async function* answerText(chunks: AsyncIterable<CompletionChunk>): AsyncGenerator<string> {
  let finished = false;
  // A provider may send `null` for a chunk, too.
  for await (const chunk of chunks as AsyncIterable<CompletionChunk | null>) {
    // A chunk that has only the usage may come without choices.
    const choice = chunk?.choices?.[0];
    if (!choice) continue;
    // Of several completions (openai's runTools), the last one has to finish.
    finished = Boolean(choice.finish_reason);
    const content: unknown = choice.delta?.content ?? '';
    if (typeof content !== 'string')
      throw new AgentError('UNAVAILABLE', 'the model provider sent a malformed answer: content is no text');
    if (content !== '') yield content;
  }
  if (!finished)
    throw new AgentError('UNAVAILABLE', "the model's answer ended early, without a finish_reason");
}
