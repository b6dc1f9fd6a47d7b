/** Generates the offline provider's answers. */

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
  /** The answer calls this tool, and has no text. */
  toolCall?: ToolCall;
}

const quoteChars = 240;

/** Words that do not describe a text's topic. */
const smallWords = new Set(
  (
    'a about all also an and any are as at be because been but by can could did do does for from had has have ' +
    'how if in into is it its just may might more most much must my no not of on or our please should so some ' +
    'such tell than that the their them then there these they this to us was we were what when where which ' +
    'while who why will with would write you your explain describe give make'
  ).split(' '),
);

/**
 * Answers a prompt without a model: equal prompts get equal answers. The answer uses the question's own words and
 * follows the instructions, so that a reader sees which agent was involved, and a test can check what the agent asked.
 *
 * @param maxTokens 0 for no limit
 * @param exactTokens the length to which the answer is padded or truncated; 0 for its natural length
 */
export function answer(prompt: Prompt, maxTokens: number, exactTokens = 0): Answer {
  const whole = tokensOf(compose(prompt));
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

function compose({ instructions, question }: Prompt): string {
  const asked = question.replaceAll(/\s+/g, ' ').trim();
  const quote = asked.length > quoteChars ? `${asked.slice(0, quoteChars)}…` : asked;
  const topics = topicsOf(asked);
  const role = /\byou are (?:a|an|the) ([a-z-]+)/i.exec(instructions)?.[1]?.toLowerCase() ?? 'general';
  const shape = shapes[role] ?? general;
  return `${shape(quote, topics)}\n\n(Offline answer to the ${role} instructions; no model answered this.)`;
}

type Shape = (quote: string, topics: string[]) => string;

const general: Shape = (quote, topics) =>
  `You asked: "${quote}"\nThat is about ${listed(topics)}.\n${topics.map((topic) => `- ${topic}: named in the question.`).join('\n')}`;

const shapes: Readonly<Record<string, Shape>> = {
  research: (quote, topics) =>
    `Finding: the question "${quote}" turns on ${listed(topics)}.\n\nEvidence:\n${topics
      .map(
        (topic, index) =>
          `${index + 1}. "${topic}" is named in the question; what is known of it comes first.`,
      )
      .join('\n')}\n\nAgainst it: the question names ${topics.length} terms and weighs none of them.\n\n` +
    `Open: how ${topics.join(' and ')} affect each other.`,
  writing: (quote, topics) =>
    `# ${capital(topics.join(', '))}\n\n"${quote}" is worth a clear answer. ${topics
      .map((topic) => `${capital(topic)} has a paragraph of its own here.`)
      .join(' ')}\n\nIn short: ${listed(topics)}, in that order.`,
  code: (quote, topics) => {
    const name = topics.map((topic) => topic.replaceAll(/\W/g, '')).filter(Boolean);
    const identifier = name.map((word, index) => (index === 0 ? word : capital(word))).join('') || 'answer';
    return (
      `The request was: "${quote}"\n\n\`\`\`ts\n/** Covers ${listed(topics)}. */\n` +
      `export function ${/^\d/.test(identifier) ? `_${identifier}` : identifier}(input: string): string {\n` +
      `  return input.trim();\n}\n\`\`\`\n\nTest it with an empty input and with a long one.`
    );
  },
};

/** The text's most frequent words, up to four; of equally frequent words the earlier first. */
function topicsOf(text: string): string[] {
  const counts = new Map<string, number>();
  for (const word of text
    .slice(0, 20_000)
    .toLowerCase()
    .match(/[\p{L}\p{N}][\p{L}\p{N}'-]*/gu) ?? []) {
    if (word.length > 2 && !smallWords.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const ranked = [...counts].sort(([, one], [, other]) => other - one).slice(0, 4);
  return ranked.length === 0 ? ['the question'] : ranked.map(([word]) => word);
}

function listed(words: string[]): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
