/** Small programs that the offline provider answers requests for code with. They run as they stand. */

interface Program {
  readonly title: string;
  readonly match: RegExp;
  readonly about: string;
  readonly code: string;
  readonly test: string;
}

const programs: readonly Program[] = [
  {
    title: 'retries with back-off',
    match: /\bretr(y|ies|ying)\b|back-?off/i,
    about: 'It tries up to four times, and waits a random time that doubles in between.',
    code: `export async function retry<T>(run: () => Promise<T>, attempts = 4, baseMs = 100): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (attempt >= attempts) throw error;
      const waitMs = Math.random() * baseMs * 2 ** attempt;
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}`,
    test: 'Test it with a function that fails twice and then returns 1, and with one that always fails.',
  },
  {
    title: 'a circuit breaker',
    match: /circuit[\s-]*break/i,
    about: 'After five failures in a row it rejects calls for thirty seconds; then one call may try.',
    code: `export class CircuitBreaker {
  private failures = 0;
  private openUntilMs = 0;

  async call<T>(run: () => Promise<T>, nowMs = Date.now()): Promise<T> {
    if (nowMs < this.openUntilMs) throw new Error('the circuit is open; try again later');
    try {
      const answer = await run();
      this.failures = 0;
      return answer;
    } catch (error) {
      if (++this.failures >= 5) this.openUntilMs = nowMs + 30_000;
      throw error;
    }
  }
}`,
    test: 'Test it with a function that fails five times: the sixth call must not reach it.',
  },
  {
    title: 'time limits',
    match: /time-?out|time limit|deadline/i,
    about: 'The work receives a signal that fires when its time is over.',
    code: `export async function within<T>(limitMs: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const signal = AbortSignal.timeout(limitMs);
  const late = new Promise<never>((_, reject) =>
    signal.addEventListener('abort', () => reject(new Error(\`no answer within \${limitMs} ms\`))),
  );
  return Promise.race([run(signal), late]);
}`,
    test: 'Test it with work that ends at once, and with work that only ends when the signal fires.',
  },
  {
    title: 'a rate limit',
    match: /rate.?limit|token bucket|throttl/i,
    about: 'A bucket fills at a steady rate, and each call takes one token out of it.',
    code: `export class RateLimit {
  private readonly perSecond: number;
  private readonly burst: number;
  private tokens: number;
  private filledAtMs = 0;

  constructor(perSecond: number, burst: number) {
    this.perSecond = perSecond;
    this.burst = burst;
    this.tokens = burst;
  }

  take(nowMs: number): boolean {
    const gained = ((nowMs - this.filledAtMs) / 1000) * this.perSecond;
    this.tokens = Math.min(this.burst, this.tokens + gained);
    this.filledAtMs = nowMs;
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }
}`,
    test: 'Test it with a burst at one moment, and with calls at exactly the steady rate.',
  },
  {
    title: 'one run for equal calls',
    match: /de-?dup|idempot|cache|memo|once|one run/i,
    about: 'Calls with one key share one run while it is in progress.',
    code: `export class Shared<T> {
  private readonly running = new Map<string, Promise<T>>();

  run(key: string, work: () => Promise<T>): Promise<T> {
    const known = this.running.get(key);
    if (known !== undefined) return known;
    const started = work().finally(() => this.running.delete(key));
    this.running.set(key, started);
    return started;
  }
}`,
    test: 'Test it with two calls at the same moment: the work must run once, and both get its answer.',
  },
];

/** A few that people ask for to try a new agent. */
const classics: readonly Program[] = [
  {
    title: 'a reversed list or text',
    match: /\brevers/i,
    about: 'It works for texts and for lists, keeps the original, and does not split surrogate pairs.',
    code: `export function reversed<T>(items: Iterable<T>): T[] {
  return Array.from(items).reverse();
}

export const reversedText = (text: string): string => reversed(text).join('');`,
    test: 'Test it with an empty list, with one item, and with a text that contains an emoji.',
  },
  {
    title: 'a sorted list',
    match: /\bsort/i,
    about: 'It sorts by any key, keeps the order of equal items, and leaves the original as it is.',
    code: `export function sortedBy<T>(items: Iterable<T>, keyOf: (item: T) => number | string): T[] {
  return Array.from(items).sort((one, other) => {
    const [first, second] = [keyOf(one), keyOf(other)];
    return first < second ? -1 : first > second ? 1 : 0;
  });
}`,
    test: 'Test it with an empty list, with equal keys, and with a list that is sorted already.',
  },
  {
    title: 'Fibonacci numbers',
    match: /fibonacci/i,
    about: 'It yields as many numbers as the caller takes, and needs no recursion.',
    code: `export function* fibonacci(): Generator<bigint> {
  let [current, next] = [0n, 1n];
  for (;;) {
    yield current;
    [current, next] = [next, current + next];
  }
}`,
    test: 'Test it with the first ten numbers, and with the hundredth, which is 218922995834555169026.',
  },
  {
    title: 'prime numbers',
    match: /\bprimes?\b/i,
    about: 'It divides by odd numbers up to the square root, which is quick up to some billions.',
    code: `export function isPrime(value: number): boolean {
  if (!Number.isSafeInteger(value)) throw new RangeError('pass a safe integer');
  if (value < 4) return value > 1;
  if (value % 2 === 0) return false;
  for (let divisor = 3; divisor * divisor <= value; divisor += 2) if (value % divisor === 0) return false;
  return true;
}`,
    test: 'Test it with -1, 0, 1, 2, 9 and 97.',
  },
];

const all = [...programs, ...classics];

export const programTitles: readonly string[] = all.map(({ title }) => title);

/** The program for a request, if there is one. */
export function programFor(question: string): Program | undefined {
  return all.find(({ match }) => match.test(question));
}
