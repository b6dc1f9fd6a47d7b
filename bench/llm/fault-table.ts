// The sixteen faults against the openai client alone, LiteLLM's proxy and the egress, as rows of a table.
import { freePort } from '../../scripts/harness/free-port.ts';
import { CLIENTS } from '../../scripts/harness/llm/clients.ts';
import { defaultSettings, faultSettings, startEgress } from '../../scripts/harness/llm/egress-listener.ts';
import { CLOCKS, FAULTS } from '../../scripts/harness/llm/faults.ts';
import { complaint } from '../../scripts/harness/llm/judge.ts';
import { type LlmProvider, startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import type { Cleanup } from '../world/cleanup.ts';
import { API_KEYS, startLiteLlm } from './systems.ts';

type Column = 'alone' | 'litellm' | 'outrigger' | 'defaults';

export interface FaultRow {
  readonly fault: string;
  readonly mode: string;
  /** By column and client: undefined is a pass, a text what is wrong; absent was not run. */
  readonly results: Map<string, string | undefined>;
}

interface Case {
  readonly fault: (typeof FAULTS)[number];
  readonly mode: 'plain' | 'stream';
  readonly client: 'openai' | 'http';
  readonly column: Column;
  /** Of its script at the provider, and its model at LiteLLM. */
  readonly name: string;
  readonly url: string;
}

/** `first_byte_timeout` and `idle_timeout`: a client's own timeout ends with the answer's head. */
const DEFAULT_CLOCK_MS = 120_000;
/** At a time; each of them mostly waits. */
const AT_ONCE = 6;

export async function runFaults(cleanup: Cleanup, core: number): Promise<FaultRow[]> {
  const provider = await startLlmProvider();
  cleanup.teardown(() => provider.close());
  const cases = await planCases(provider);
  const models = Object.fromEntries(
    cases.filter(({ column }) => column === 'litellm').map(({ name, url }) => [name, url]),
  );
  const litellm = await startLiteLlm(cleanup, models, core);
  const rows = new Map<string, FaultRow>();
  const queue = cases.filter(({ column }) => column !== 'litellm' || litellm !== undefined);
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const wrong = await runCase(next, provider, litellm?.baseUrl);
      const key = `${next.fault.name}\n${next.mode}`;
      const row = rows.get(key) ?? { fault: next.fault.name, mode: next.mode, results: new Map() };
      rows.set(key, row);
      row.results.set(`${next.column} ${next.client}`, wrong);
      console.log(`${next.fault.name}, ${next.mode}, ${next.column}, ${next.client}: ${wrong ?? 'pass'}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const order = FAULTS.map(({ name }) => name);
  return [...rows.values()].sort(
    (a, b) => order.indexOf(a.fault) - order.indexOf(b.fault) || a.mode.localeCompare(b.mode),
  );
}

async function planCases(provider: LlmProvider): Promise<Case[]> {
  const cases: Case[] = [];
  for (const fault of FAULTS) {
    for (const mode of fault.modes) {
      for (const column of ['alone', 'litellm', 'outrigger', 'defaults'] as const) {
        // Plain HTTP alone has neither clocks nor retries: there is nothing to compare, nor with default clocks of minutes.
        const onlyOpenAi = column === 'alone' || column === 'defaults';
        for (const client of onlyOpenAi ? (['openai'] as const) : (['openai', 'http'] as const)) {
          const name = `case-${cases.length}`;
          const scripted = provider.script(name, fault.script);
          const url = fault.refused ? `http://127.0.0.1:${await freePort()}/v1` : scripted;
          cases.push({ fault, mode, client, column, name, url });
        }
      }
    }
  }
  return cases;
}

async function runCase(
  one: Case,
  provider: LlmProvider,
  litellmUrl: string | undefined,
): Promise<string | undefined> {
  const { fault, mode, client, column, name, url } = one;
  const settings = { outrigger: faultSettings, defaults: defaultSettings } as const;
  const egress =
    column === 'outrigger' || column === 'defaults' ? await startEgress(settings[column](url)) : undefined;
  const baseUrl = egress?.baseUrl ?? (column === 'litellm' ? (litellmUrl ?? '') : url);
  const mostMs = column === 'defaults' ? DEFAULT_CLOCK_MS : CLOCKS.totalMs;
  try {
    const seen = await CLIENTS[client]({
      baseUrl,
      model: column === 'litellm' ? name : 'm',
      stream: mode === 'stream',
      limitMs: mostMs + 12_000,
      // Alone the client has its own clock only; behind a proxy it is left as it comes.
      ...(column === 'alone' ? { timeoutMs: CLOCKS.firstByteMs } : {}),
      ...(column === 'defaults' ? { requestTimeoutMs: CLOCKS.firstByteMs } : {}),
      ...(API_KEYS[column] === undefined ? {} : { apiKey: API_KEYS[column] }),
    });
    // LiteLLM looks at the list of models as well, which costs nothing.
    const asked = provider.requests(name).filter(({ method }) => method === 'POST');
    return complaint(fault, seen, asked.length, mostMs);
  } finally {
    egress?.close();
  }
}

const COLUMNS: readonly (readonly [title: string, key: string])[] = [
  ['openai client alone', 'alone openai'],
  ['LiteLLM, openai client', 'litellm openai'],
  ['LiteLLM, plain HTTP', 'litellm http'],
  ['Outrigger, openai client', 'outrigger openai'],
  ['Outrigger, plain HTTP', 'outrigger http'],
  ['Outrigger with default clocks, openai client', 'defaults openai'],
];

export function faultTable(rows: readonly FaultRow[]): string {
  const columns = COLUMNS.filter(([, key]) => rows.some(({ results }) => results.has(key)));
  const cell = ({ results }: FaultRow, key: string): string => {
    if (!results.has(key)) return '';
    return (results.get(key) ?? 'pass').replaceAll('|', '\\|').replaceAll('\n', ' ');
  };
  const passes = columns.map(([, key]) => {
    const run = rows.filter(({ results }) => results.has(key));
    return `**${run.filter(({ results }) => results.get(key) === undefined).length} of ${run.length}**`;
  });
  return [
    `| fault | answer | ${columns.map(([title]) => title).join(' | ')} |`,
    `| --- | --- | ${columns.map(() => '---').join(' | ')} |`,
    ...rows.map(
      (row) => `| ${row.fault} | ${row.mode} | ${columns.map(([, key]) => cell(row, key)).join(' | ')} |`,
    ),
    `| **passed** | | ${passes.join(' | ')} |`,
  ].join('\n');
}
