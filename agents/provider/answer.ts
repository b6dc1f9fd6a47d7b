/** Generates the offline provider's answers. */

import { compose } from './compose.ts';
import { countTokens, tokensOf } from './tokens.ts';
import type { ToolCall } from './tool-call.ts';

export interface Prompt {
  /** The text of the system, developer or instructions message. */
  instructions: string;
  /** The user's question: the last user message. */
  question: string;
  /** The tokens of the whole prompt. */
  inputTokens: number;
}

export interface Answer {
  /** The answer, in the pieces in which it is streamed. */
  tokens: string[];
  /** `length` if the limit truncated it. */
  finishReason: 'stop' | 'length';
  inputTokens: number;
  /** The answer calls these tools, and has no text. */
  toolCalls?: readonly ToolCall[];
}

/**
 * Answers a prompt without a model: equal prompts get equal answers. The answer ends with the question and the role, so
 * that a reader sees which agent was involved, and a test can check what the agent asked.
 *
 * @param maxTokens 0 for no limit
 * @param toolResult what a tool returned for this question; it leads the answer
 * @param exactTokens the length to which the answer is padded or truncated; 0 for its natural length
 */
export function answer(
  prompt: Prompt,
  maxTokens: number,
  exactTokens = 0,
  toolResult: string | undefined = undefined,
): Answer {
  const found = toolResult === undefined ? '' : `The tool says: ${toolResult.trim().slice(0, 2000)}\n\n`;
  const whole = tokensOf(found + compose(roleOf(prompt.instructions), prompt.question));
  let tokens = whole;
  if (exactTokens > 0)
    tokens = Array.from({ length: exactTokens }, (_, index) => whole[index % whole.length]!);
  const cut = maxTokens > 0 && tokens.length > maxTokens;
  return {
    tokens: cut ? tokens.slice(0, maxTokens) : tokens,
    finishReason: cut ? 'length' : 'stop',
    inputTokens: prompt.inputTokens,
  };
}

/** Builds a prompt from its two texts. */
export function promptOf(instructions: string, question: string, otherTurns = ''): Prompt {
  const inputTokens = countTokens(instructions) + countTokens(question) + countTokens(otherTurns);
  return { instructions, question, inputTokens };
}

/** Whether the instructions are those of an agent that plans the work of others. */
export function isPlanner({ instructions }: Prompt): boolean {
  return ['orchestrator', 'planner', 'supervisor'].includes(roleOf(instructions));
}

/** The word after "You are a" in the instructions. */
function roleOf(instructions: string): string {
  return /\byou are (?:a|an|the) ([a-z-]+)/i.exec(instructions)?.[1]?.toLowerCase() ?? 'general';
}
