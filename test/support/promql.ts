// Where PromQL is written: dashboards and rules.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

const folder = join(import.meta.dirname, '../../k8s/observability/files');

export interface WrittenQuery {
  /** For the report: which panel, variable, rule or link. */
  readonly where: string;
  readonly promql: string;
  /** As it is written, with Grafana's variables. */
  readonly expr: string;
  readonly kind: 'panel' | 'variable' | 'link' | 'autoscaling' | 'record' | 'alert';
  readonly exemplars: boolean;
}

interface GrafanaPanel {
  title: string;
  datasource?: { type: string };
  targets?: { expr?: string; exemplar?: boolean }[];
}

export const rulesText = readFileSync(join(folder, 'prometheus/rules.yaml'), 'utf8');

/** Every query of the dashboards, with Grafana's variables filled in. */
export function dashboardQueries(): WrittenQuery[] {
  const dashboards = join(folder, 'grafana/dashboards');
  return readdirSync(dashboards).flatMap((file) => {
    const { panels, templating } = JSON.parse(readFileSync(join(dashboards, file), 'utf8')) as {
      panels: GrafanaPanel[];
      templating: { list: { name: string; query: { query: string } }[] };
    };
    const variables = templating.list.map(({ name, query }) => {
      const found = /^label_values\((.+), (\w+)\)$/.exec(query.query);
      if (found === null) throw new Error(`${file}: the variable ${name} is no label_values`);
      return written(`${file}: variable ${name}`, `count by (${found[2]}) (${found[1]})`, 'variable');
    });
    const queries = panels.flatMap(({ title, datasource, targets = [] }) =>
      datasource?.type !== 'prometheus'
        ? []
        : targets.map(({ expr = '', exemplar = false }, i) =>
            written(`${file}: ${title} ${String.fromCharCode(65 + i)}`, expr, 'panel', exemplar),
          ),
    );
    return [...variables, ...queries];
  });
}

/** The queries that lead from a trace to numbers. */
export function linkQueries(): WrittenQuery[] {
  const { datasources } = parse(
    readFileSync(join(folder, 'grafana/provisioning/datasources.yaml'), 'utf8'),
  ) as {
    datasources: { jsonData: { tracesToMetrics?: { queries: { name: string; query: string }[] } } }[];
  };
  return datasources.flatMap(({ jsonData }) =>
    (jsonData.tracesToMetrics?.queries ?? []).map(({ name, query }) =>
      written(`data source: ${name}`, query.replaceAll('$$__tags', 'service="research"'), 'link'),
    ),
  );
}

/** What the Prometheus adapter asks for autoscaling, for all pods of a namespace. */
export function autoscalingQueries(): WrittenQuery[] {
  const path = join(folder, '../../components/autoscaling/prometheus-adapter-values.yaml');
  const { rules } = parse(readFileSync(path, 'utf8')) as {
    rules: { custom: { seriesQuery: string; name: { as: string }; metricsQuery: string }[] };
  };
  return rules.custom.flatMap(({ seriesQuery, name, metricsQuery }) => [
    written(`autoscaling ${name.as}: series`, seriesQuery, 'autoscaling'),
    written(
      `autoscaling ${name.as}`,
      metricsQuery.replaceAll('<<.LabelMatchers>>', 'namespace="agents"').replaceAll('<<.GroupBy>>', 'pod'),
      'autoscaling',
    ),
  ]);
}

export function ruleQueries(): WrittenQuery[] {
  const { groups } = parse(rulesText) as {
    groups: { rules: { record?: string; alert?: string; expr: string }[] }[];
  };
  return groups.flatMap(({ rules }) =>
    rules.map(({ record, alert, expr }) =>
      record === undefined
        ? written(`alert ${alert}`, expr, 'alert')
        : written(`record ${record}`, expr, 'record'),
    ),
  );
}

function written(where: string, expr: string, kind: WrittenQuery['kind'], exemplars = false): WrittenQuery {
  const promql = filled(expr, { service: '.*', rateInterval: '1m', range: '5m' });
  if (promql.includes('$')) throw new Error(`${where}: a variable is left in ${promql}`);
  return { where, promql, expr, kind, exemplars };
}

/** A query with Grafana's variables filled in. */
export function filled(
  expr: string,
  { service, rateInterval, range }: { service: string; rateInterval: string; range: string },
): string {
  return expr
    .replaceAll('$service', service)
    .replaceAll('$__rate_interval', rateInterval)
    .replaceAll('$__range', range)
    .trim();
}

/** Names of metrics in a query: what stands before `{`, `[`, or alone; not functions, labels or strings. */
export function metricNames(promql: string): string[] {
  const withoutLabels = promql
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\{[^}]*\}/g, ' ')
    .replaceAll(/\b(by|without|on|ignoring) ?\([^)]*\)/g, ' ');
  const names = withoutLabels.match(/\b(?:rpc_|outrigger[_:]|process_|nodejs_|up\b)[\w:]*/g) ?? [];
  return [...new Set(names)];
}
