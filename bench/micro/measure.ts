// Times small pieces of code in one process.

const ROUNDS = 30;
const ROUND_MS = 15;

/** Prints the best of many rounds, which other work on the machine disturbed least. `batch` answers how much it did. */
export function measure(name: string, batch: () => number): void {
  // Compiled first.
  for (const endMs = performance.now() + 3 * ROUND_MS; performance.now() < endMs; ) batch();
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    let done = 0;
    do done += batch();
    while (Number(process.hrtime.bigint() - start) < ROUND_MS * 1e6);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / done);
  }
  const perSecond = Math.round(1e9 / best).toLocaleString('en');
  console.log(
    `${name.padEnd(62)} ${best.toFixed(best < 100 ? 1 : 0).padStart(7)} ns ${perSecond.padStart(14)}/s`,
  );
}
