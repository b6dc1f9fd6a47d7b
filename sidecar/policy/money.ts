/** Bounds the money of a task, in whole nano-dollars, and reads and writes amounts as USD. Pure. */
import { TokenBudget } from './token-budget.ts';

/** The field of a call's metadata, or of a request's headers, that limits the money of its task: `0.05`. */
export const USD_BUDGET_HEADER = 'outrigger-usd-budget';

/** The header in which a sidecar tells the service how much one request may cost, over all its attempts there. */
export const REQUEST_USD_HEADER = 'outrigger-request-usd';

/** The money that a call with a budget has used, as `outrigger-tokens-used` tells its tokens. */
export const USD_USED_HEADER = 'outrigger-usd-used';

const NANOS_PER_USD = 1_000_000_000;
/** Larger amounts count as this one, so that all of them are exact. */
const MOST_USD = 1_000_000;

/** Returns an amount of USD as nano-dollars. */
export function nanosOf(usd: number): number {
  return Math.round(usd * NANOS_PER_USD);
}

/** Returns nano-dollars as USD. */
export function usdOf(nanos: number): number {
  return nanos / NANOS_PER_USD;
}

/** Reads USD with decimals, such as `0.05`, as nano-dollars; -1, which means no budget, for any other text. */
export function parseUsd(text: string): number {
  const found = /^(\d{1,15})(?:\.(\d{1,30}))?$/.exec(text);
  if (found === null) return -1;
  const [, whole, decimals = ''] = found;
  if (Number(whole) >= MOST_USD) return MOST_USD * NANOS_PER_USD;
  return Number(whole) * NANOS_PER_USD + Number(decimals.slice(0, 9).padEnd(9, '0'));
}

/** Writes nano-dollars as USD, exactly, for {@link parseUsd}. */
export function writeUsd(nanos: number): string {
  const whole = Math.floor(nanos / NANOS_PER_USD);
  const decimals = String(nanos - whole * NANOS_PER_USD)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return decimals === '' ? String(whole) : `${whole}.${decimals}`;
}

/** Shows an amount to people, with all digits of a cent that matter. */
export function showUsd(nanos: number): string {
  return `${usdOf(nanos)
    .toFixed(6)
    .replace(/0{1,4}$/, '')} USD`;
}

/** The money of a task, in nano-dollars. */
export class MoneyBudget extends TokenBudget {
  protected override describe(left: number): string {
    return `the task has ${showUsd(left)} left, and the request may cost more; ask for fewer tokens`;
  }
}
