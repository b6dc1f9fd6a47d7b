/**
 * Composes answers without a model: the kind of the request and the role of the agent give the form, and the subject gives the
 * facts. The same question always gets the same answer. Of what it does not know it says so, and claims nothing.
 */
import { programFor, programTitles } from './programs.ts';
import { type Kind, readQuestion } from './question.ts';
import { type Subject, subjects, subjectsOf } from './subjects.ts';
import { supportAnswer } from './support.ts';

const quoteChars = 240;

/** Facts about a subject, as full sentences. */
interface Facts {
  readonly title: string;
  readonly what: string;
  readonly why: string;
  readonly risk: string;
  readonly check: string;
  readonly fits: string;
  readonly open: string;
}

/** @param role of the agent: the word after "You are a" in its instructions */
export function compose(role: string, text: string): string {
  const asked = text.replaceAll(/\s+/g, ' ').trim();
  const quote = asked.length > quoteChars ? `${asked.slice(0, quoteChars)}…` : asked;
  return `${bodyOf(role, asked)}\n\n(Offline answer to the ${role} instructions and the question "${quote}"; no model answered this.)`;
}

function bodyOf(role: string, asked: string): string {
  const support = supportAnswer(role, asked);
  if (support !== undefined) return support;
  const { kind, about, sides } = readQuestion(asked);
  const [first, second] = subjectsOf(asked);
  if (kind === 'haiku') return haiku(role, about, first);
  if (role === 'code' || kind === 'code') return program(asked, about);
  if (first === undefined) return unknown(role, about, asked);
  const facts = factsOf(first);
  if (kind === 'compare') {
    if (second !== undefined) return comparison(role, facts, factsOf(second));
    const other = sides?.find((side) => subjectsOf(side).length === 0);
    return `${explain(role, facts, 'explain', asked)}\n\nThe offline provider knows nothing of ${other ?? 'the other side'}, so the comparison ends here.`;
  }
  return explain(role, facts, kind, asked);
}

function explain(role: string, facts: Facts, kind: Kind, asked: string): string {
  if (role === 'research') return finding(facts, kind);
  if (role === 'writing') return article(facts, asked);
  return kind === 'steps' ? steps(facts) : paragraphs(facts, asked);
}

const unknownHaiku = 'You asked about this;\nno model is here tonight,\nonly words you brought.';

function haiku(role: string, about: string, known: Subject | undefined): string {
  const title = role === 'writing' ? `# ${known?.title ?? capital(about)}\n\n` : '';
  return title + (known?.haiku.join('\n') ?? unknownHaiku);
}

function factsOf({ name, title, does, why, risk, check, fits, open }: Subject): Facts {
  return {
    title,
    what: `${capital(name)} ${does}.`,
    why: `This helps because ${why}.`,
    risk: `The risk is that ${risk}.`,
    check,
    fits: `It fits where ${fits}.`,
    open: `${capital(open)}.`,
  };
}

/** The answer to a question about anything else. */
function unknown(role: string, about: string, asked: string): string {
  const start = hashOf(asked);
  const others = [0, 1, 2].map((step) => subjects[(start + step * 5) % subjects.length]!.title.toLowerCase());
  const suggestion = `Ask about ${others[0]}, ${others[1]} or ${others[2]}, for example`;
  const key = 'with OPENAI_API_KEY set, a model answers everything else';
  if (role === 'research') {
    return (
      `Finding: nothing here supports an answer about "${about}".\n\nEvidence:\n` +
      `1. The offline provider has facts about ${subjects.length} subjects, all of them about running agents and services. (certain)\n` +
      `2. The question names none of these. (certain)\n\n` +
      `Against it: a model, or a person with a source, may well know.\n\nOpen: the question itself. ${suggestion}; ${key}.`
    );
  }
  const title = role === 'writing' ? `# ${capital(about)}\n\n` : '';
  return (
    `${title}This could have been a text about "${about}". The offline provider has facts about ${subjects.length} subjects, ` +
    `all of them about running agents and services, and this is none of them. It leaves the page empty rather than invent something.` +
    `\n\n${suggestion}, and it has more to say; ${key}.`
  );
}

function finding({ what, why, risk, check, fits, open }: Facts, kind: Kind): string {
  const second = kind === 'steps' ? [check, fits] : [fits, check];
  return (
    `Finding: ${what}\n\nEvidence:\n1. ${why} (well established)\n2. ${second[0]} (from experience)\n` +
    `3. ${second[1]} (to see it in your own system)\n\nAgainst it: ${lower(risk)}\n\nOpen: ${lower(open)}`
  );
}

const leads = [
  'Good systems rarely depend on luck, and this is one of the reasons.',
  'Some ideas look small until the day on which they are missing.',
  'Whoever runs software for others comes to this point sooner or later.',
];

const closings = [
  'That is little to build and much to have.',
  'It is worth doing before it is needed.',
  'Begin small, measure, and keep what helps.',
];

function article({ title, what, why, risk, check, fits }: Facts, asked: string): string {
  return `# ${title}\n\n${pick(leads, asked)} ${what}\n\n${why} ${fits}\n\n${risk} ${check}\n\n${pick(closings, asked)}`;
}

function comparison(role: string, one: Facts, other: Facts): string {
  const [first, second] = [one.title, lower(other.title)];
  const head = role === 'writing' ? `# ${first} and ${second}\n\n` : role === 'research' ? 'Finding: ' : '';
  return (
    `${head}${first} and ${second} answer different problems, so the choice depends on what goes wrong.\n\n` +
    `${first}: ${one.what} ${one.fits} ${one.risk}\n\n${other.title}: ${other.what} ${other.fits} ${other.risk}\n\n` +
    `To choose, measure both. For ${lower(first)}: ${lower(one.check)} For ${second}: ${lower(other.check)}`
  );
}

function steps({ what, why, risk, check, fits }: Facts): string {
  return (
    `${what}\n\n1. Decide whether you need it. ${fits}\n2. Begin with the defaults, in one place, and change one thing at a time.\n` +
    `3. ${check}\n4. Watch for the usual mistake. ${risk}\n\n${why}`
  );
}

function paragraphs({ what, why, risk, check, fits }: Facts, asked: string): string {
  return `${what} ${why}\n\n${fits} ${risk}\n\n${check} ${pick(closings, asked)}`;
}

function program(asked: string, about: string): string {
  const found = programFor(asked);
  if (found !== undefined) return `\`\`\`ts\n${found.code}\n\`\`\`\n\n${found.about} ${found.test}`;
  return (
    `The offline provider has no program for "${about}", and a wrong one would be worse than none. ` +
    `It has small ones in TypeScript for ${programTitles.join(', ')}. With OPENAI_API_KEY set, a model writes all others.`
  );
}

/** One of several texts, always the same one for a question. */
function pick(texts: readonly string[], asked: string): string {
  return texts[hashOf(asked) % texts.length]!;
}

function hashOf(asked: string): number {
  let sum = 0;
  for (let at = 0; at < asked.length; at++) sum = (sum * 31 + asked.charCodeAt(at)) % 65_521;
  return sum;
}

/** Leaves names such as gRPC as they are. */
function capital(text: string): string {
  if (/^\p{Ll}\p{Lu}/u.test(text)) return text;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function lower(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
