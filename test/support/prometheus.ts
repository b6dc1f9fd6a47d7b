// A real Prometheus (Debian's) that scrapes what a test names, and its HTTP API.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

export interface PrometheusOptions {
  /** Service name → port on 127.0.0.1. */
  readonly targets: Readonly<Record<string, number>>;
  /** The text of a file of rules. */
  readonly rules: string;
  /** What is off without `--enable-feature`, besides exemplars. */
  readonly features?: readonly string[];
}

/** One element of an instant vector. */
export interface VectorElement {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Prometheus {
  readonly url: string;
  logs(): string;
  /** An instant query; throws with Prometheus' words when it refuses the query. */
  query(promql: string): Promise<readonly VectorElement[]>;
  /** `GET /api/v1/…`, and its `data`. */
  get(path: string, parameters?: Readonly<Record<string, string>>): Promise<unknown>;
}

const SCRAPE_INTERVAL = '1s';

export async function startPrometheus(
  t: Pick<Test, 'teardown'>,
  { targets, rules, features = [] }: PrometheusOptions,
): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-prometheus-'));
  const config = {
    global: {
      scrape_interval: SCRAPE_INTERVAL,
      scrape_timeout: SCRAPE_INTERVAL,
      evaluation_interval: SCRAPE_INTERVAL,
    },
    rule_files: [join(folder, 'rules.yaml')],
    scrape_configs: [
      {
        job_name: 'outrigger',
        static_configs: Object.entries(targets).map(([service, port]) => ({
          targets: [`127.0.0.1:${port}`],
          labels: { service, namespace: 'agents', pod: `${service}-0` },
        })),
      },
    ],
  };
  const configFile = join(folder, 'prometheus.yaml');
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify(config));
  writeFileSync(join(folder, 'rules.yaml'), rules);
  const url = `http://127.0.0.1:${await freePort()}`;
  const running = startProcess(t, requireTool('prometheus'), [
    `--config.file=${configFile}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=${url.slice('http://'.length)}`,
    `--enable-feature=${['exemplar-storage', ...features].join()}`,
    '--log.level=warn',
  ]);
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  const get: Prometheus['get'] = async (path, parameters = {}) => {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`, {
      signal: AbortSignal.timeout(20_000),
    });
    const answer = (await response.json()) as { status: string; error?: string; data: unknown };
    if (answer.status !== 'success')
      throw new Error(`${path} ${JSON.stringify(parameters)}: ${answer.error}`);
    return answer.data;
  };
  try {
    await waitUntil('Prometheus is ready', async () => (await fetch(`${url}/-/ready`)).ok);
  } catch (error) {
    throw new Error(`${(error as Error).message}; its log:\n${running.logs().slice(-2_000)}`, {
      cause: error,
    });
  }
  return {
    url,
    logs: running.logs,
    get,
    query: async (promql) => {
      const { resultType, result } = (await get('query', { query: promql })) as {
        resultType: string;
        result: { metric: Record<string, string>; value: [number, string] }[];
      };
      if (resultType !== 'vector') throw new Error(`${promql} gives a ${resultType}`);
      return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    },
  };
}
