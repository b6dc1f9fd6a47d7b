// Queries as Prometheus answers them at a moment whose samples are known: between two scrapes at rest nothing is guessed at the
// ends, so that a rate is exactly what was added between them.

import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { Prometheus, VectorElement } from '../support/prometheus.ts';
import { filled, type WrittenQuery } from '../support/promql.ts';
import type { Service } from './ledger.ts';

/** Of samples of each service, in seconds. */
export type Scraped = Readonly<Record<Service, number>>;

/** The first scrapes that began from now on. */
export async function scrapedFromNow(prometheus: Prometheus): Promise<Scraped> {
  const fromS = Date.now() / 1000;
  const first = (service: Service): Promise<number> =>
    waitUntil(`${service} is scraped`, async () => {
      const { result } = (await prometheus.get('query', {
        query: `outrigger_ready{service="${service}"}[1m]`,
      })) as { result: { values: [number, string][] }[] };
      return result[0]?.values.map(([atS]) => atS).find((atS) => atS > fromS);
    });
  const [caller, research] = await Promise.all([first('caller'), first('research')]);
  return { caller, research };
}

/** For one service, at a scrape of it; each range reaches back to the scrape at `sinceS`, and no further. */
export async function answerAt(
  prometheus: Prometheus,
  { expr, kind }: WrittenQuery,
  { service, atS, sinceS }: { service: Service; atS: number; sinceS: number },
): Promise<readonly VectorElement[]> {
  // A range may be without its beginning: a millisecond more has it inside.
  const range = `${Math.round((atS - sinceS) * 1000) + 1}ms`;
  const own =
    kind === 'autoscaling'
      ? expr.replaceAll('namespace="agents"', `namespace="agents",service="${service}"`)
      : expr;
  const query = filled(own, { service, rateInterval: range, range }).replaceAll(
    /\[\d+[smh]\]/g,
    `[${range}]`,
  );
  const { result } = (await prometheus.get('query', { query, time: String(atS) })) as {
    result: { metric: Record<string, string>; value: [number, string] }[];
  };
  const all = result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  // Rules are of all services.
  return all.filter(({ metric }) => (metric['service'] ?? metric['agent'] ?? service) === service);
}
