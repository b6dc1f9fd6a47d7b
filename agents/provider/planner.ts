/** Plays a model that plans: calls agents as functions (`ask_NAME`), some at a time, and answers from what they returned. */
import { randomInt } from 'node:crypto';
import { readQuestion } from './question.ts';
import { sumFor, type ToolCall } from './tool-call.ts';

/** A call of an earlier answer, with what it returned. */
interface EndedCall extends ToolCall {
  result: string;
}

/** The calls of one answer. */
export type Round = readonly EndedCall[];

export type PlannedStep = { calls: ToolCall[] } | { text: string };

const resultChars = 1500;
const agentOf = (name: string): string | undefined => /^ask_(.+)$/.exec(name)?.[1];

/**
 * The next step of a plan; undefined where the request has no agents to call.
 *
 *     research, code, sums: all at once ──▶ writing, from what they found ──▶ the answer
 *
 * @param varies plans differently each time, as models do: other numbers, words and orders of calls
 */
export function planFor(
  question: string,
  tools: readonly string[],
  rounds: readonly Round[],
  varies: boolean,
): PlannedStep | undefined {
  const agents = tools.filter((name) => agentOf(name) !== undefined);
  if (agents.length === 0) return rounds.length === 0 ? undefined : { text: answerFrom(rounds, varies) };
  const mark = varies ? ` (plan ${nonce()})` : '';
  if (rounds.length === 0) {
    const calls = firstCalls(question, tools, varies).map((call) => marked(call, mark));
    return { calls: varies ? shuffled(calls) : calls };
  }
  const asked = rounds.flat();
  const found = asked.filter(({ name }) => name === 'ask_research');
  const hasWritten = asked.some(({ name }) => name === 'ask_writing');
  if (!hasWritten && found.length > 0 && tools.includes('ask_writing') && !(varies && randomInt(4) === 0)) {
    const notes = found.map(({ result }) => `- ${result.split('\n', 1)[0]}`).join('\n');
    const input = `Write a text about: ${question}${mark}\nNotes:\n${notes}`;
    return { calls: [{ name: 'ask_writing', arguments: JSON.stringify({ input }) }] };
  }
  return { text: answerFrom(rounds, varies) };
}

function firstCalls(question: string, tools: readonly string[], varies: boolean): ToolCall[] {
  const calls: ToolCall[] = [];
  const ask = (agent: string, input: string) => {
    const name = `ask_${agent}`;
    if (tools.includes(name)) calls.push({ name, arguments: JSON.stringify({ input }) });
  };
  const { kind, about, sides } = readQuestion(question);
  const sum = sumFor(question, tools);
  if (sum !== undefined) calls.push(sum);
  for (const name of tools) {
    const agent = agentOf(name);
    // What a question names by its name, whatever it is.
    if (
      agent !== undefined &&
      new RegExp(`\\b${agent.replaceAll(/[^a-zA-Z0-9]/g, '.')}\\b`, 'i').test(question)
    )
      ask(agent, question);
  }
  if (kind === 'code') ask('code', question);
  else if (sides !== undefined) for (const side of sides) ask('research', `Why does ${side} matter?`);
  else if (sum === undefined) {
    ask('research', question);
    ask('research', `How do you check ${about}?`);
    if (varies && randomInt(2) === 0) ask('research', `What are the risks of ${about}?`);
  }
  const first = tools.find((name) => agentOf(name) !== undefined)!;
  const distinct = new Map(calls.map((call) => [`${call.name} ${call.arguments}`, call]));
  return distinct.size > 0
    ? [...distinct.values()]
    : [{ name: first, arguments: JSON.stringify({ input: question }) }];
}

function answerFrom(rounds: readonly Round[], varies: boolean): string {
  const asked = rounds.flat();
  const steps = asked.map(({ name }, at) => `${at + 1}. ${name}`).join('\n');
  const last = rounds
    .at(-1)!
    .map(({ result }) => result.trim().slice(0, resultChars))
    .join('\n\n');
  const mark = varies ? ` Answer ${nonce()}.` : '';
  return `${last}\n\nThis answer comes from these steps:\n${steps}\n\n(The offline provider has played the planner.${mark})`;
}

function marked(call: ToolCall, mark: string): ToolCall {
  if (mark === '' || agentOf(call.name) === undefined) return call;
  const { input } = JSON.parse(call.arguments) as { input: string };
  return { name: call.name, arguments: JSON.stringify({ input: input + mark }) };
}

function shuffled<T>(items: readonly T[]): T[] {
  const left = [...items];
  return items.map(() => left.splice(randomInt(left.length), 1)[0]!);
}

/** Makes an answer one that no other one equals. */
export function nonce(): string {
  return randomInt(2 ** 32)
    .toString(16)
    .padStart(8, '0');
}
