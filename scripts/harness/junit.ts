// Parses h2spec's JUnit report.

export interface CaseResult {
  suite: string;
  name: string;
  outcome: 'passed' | 'failed' | 'skipped';
  /** The expected and the actual result, on one line. Empty for a passed test. */
  detail: string;
}

export function readJUnit(xml: string): CaseResult[] {
  const results: CaseResult[] = [];
  for (const [, suite = '', cases = ''] of xml.matchAll(
    /<testsuite name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testsuite>)/g,
  )) {
    for (const [, name = '', body = ''] of cases.matchAll(
      /<testcase[^>]*? classname="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g,
    )) {
      const problem = /<(failure|error|skipped)\b/.exec(body)?.[1];
      results.push({
        suite: text(suite),
        name: text(name),
        outcome: problem === undefined ? 'passed' : problem === 'skipped' ? 'skipped' : 'failed',
        detail: text(body.replace(/<[^>]*>/g, ''))
          .replace(/\s*\n\s*/g, '; ')
          .trim(),
      });
    }
  }
  return results;
}

function text(escaped: string): string {
  return escaped
    .replace(/&#(x?)([0-9a-fA-F]+);/g, (_, hex, digits) =>
      String.fromCodePoint(Number.parseInt(digits, hex ? 16 : 10)),
    )
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&apos;', "'")
    .replaceAll('&amp;', '&');
}
