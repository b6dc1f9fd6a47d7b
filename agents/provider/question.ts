/** Reads what a question asks for: the kind of answer, and its subject in the question's own words. */

export type Kind = 'haiku' | 'compare' | 'code' | 'steps' | 'explain';

export interface Question {
  readonly kind: Kind;
  /** The subject of the question: a short part of it. */
  readonly about: string;
  /** The two sides of a comparison. */
  readonly sides: readonly [string, string] | undefined;
}

const maxAboutChars = 80;
/** The searched part of a long question. */
const maxReadChars = 2000;

const kinds: readonly (readonly [Kind, RegExp])[] = [
  ['haiku', /\bhaikus?\b/i],
  ['compare', /\bcompar|\bversus\b|\bvs\b|\bdifferences? between\b|\bbetter\b.*\bor\b/i],
  ['code', /\b(write|implement|show|give)\b.*\b(function|class|code|script|program|snippet|test)\b/i],
  ['steps', /^(so |and )?how (do|does|can|should|would|to)\b/i],
];

/** Ways to begin a question, before its subject. */
const openings: readonly RegExp[] = [
  /^(?:please )?(?:can|could|would|will) you (?:please )?/i,
  /^please /i,
  /^(?:write|compose|give|make|create|tell|show)(?: (?:me|us))?(?: an?| the| some| one)? (?:short |brief |small |long )*(?:haiku|poem|text|essay|article|note|story|paragraph|summary|function|class|code|script|program|explanation|introduction)s? (?:on|about|of|to|for|that|which|with|in)(?: how| why| what)? /i,
  /^(?:an? |one )?(?:haiku|poem|essay|note|text|summary) (?:on|about|of|for) /i,
  /^(?:explain|describe|summari[sz]e|outline|discuss|define|tell me about|write about)(?: to me)?(?: how| why| what| when)? /i,
  /^(?:why|how|when|where|what|which|who)(?: exactly)? (?:do|does|did|is|are|was|were|should|can|could|would|will|to)(?: i| we| you| one| people)? /i,
  /^what(?:'s| about) /i,
  /^(?:compare|contrast) /i,
  /^(?:the )?differences? between /i,
];

/** Verbs that end a question about a subject. */
const endings =
  /\s(?:matter|work|help|fail|exist|happen|mean|do|needed|necessary|useful|important|good for|so important)$/i;

export function readQuestion(text: string): Question {
  const asked = text.slice(0, maxReadChars);
  const kind = kinds.find(([, pattern]) => pattern.test(asked))?.[0] ?? 'explain';
  const about = subjectIn(asked);
  const sides = kind === 'compare' ? sidesOf(about) : undefined;
  return { kind, about, sides };
}

function subjectIn(asked: string): string {
  // A question may follow an introduction: its last sentence asks.
  const sentences = asked.split(/(?<=[.!?])\s+/).filter((sentence) => /\p{L}/u.test(sentence));
  let rest = (sentences.findLast((sentence) => sentence.endsWith('?')) ?? sentences[0] ?? asked).trim();
  for (const opening of openings) rest = rest.replace(opening, '');
  rest = rest
    .replace(/[\s.!?:;,]+$/, '')
    .replace(endings, '')
    .trim();
  if (rest === '') return 'the question';
  if (rest.length <= maxAboutChars) return rest;
  return `${rest.slice(0, maxAboutChars).replace(/\s+\S*$/, '')}…`;
}

function sidesOf(about: string): [string, string] | undefined {
  const [one, other] = about.split(/\s+(?:and|with|to|versus|vs\.?|or|against)\s+/i);
  return one === undefined || other === undefined || one === '' || other === '' ? undefined : [one, other];
}
