/** The texts in which the orchestrator tells what it does and what it could not do. Pure. */
import type { Step, StepEnd } from './steps.ts';

const shownChars = 160;

/** The line of a stream when a step begins. */
export function begunLine({ place, name, arguments: json }: Step): string {
  return `[step ${place}] ${name} ${shortened(json)}\n`;
}

/** The line of a stream when a step has ended. */
export function endedLine({ step, failed }: StepEnd): string {
  const { place, name } = step;
  return failed === ''
    ? `[step ${place}] ${name} is done\n`
    : `[step ${place}] ${name} failed: ${shortened(failed)}\n`;
}

/** Returns the text that follows the answer when branches have failed; '' when none has. */
export function namedFailures(failed: readonly StepEnd[]): string {
  if (failed.length === 0) return '';
  const lines = failed.map(
    ({ step, failed: why }) => `- step ${step.place}, ${step.name}: ${shortened(why)}`,
  );
  return `\n\nNot everything was done:\n${lines.join('\n')}`;
}

function shortened(text: string): string {
  const line = text.replaceAll(/\s+/g, ' ');
  return line.length <= shownChars ? line : `${line.slice(0, shownChars).toWellFormed()}…`;
}
