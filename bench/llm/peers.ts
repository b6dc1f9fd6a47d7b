// The egress beside LiteLLM's proxy and Portkey's gateway, for each API: what each adds to the time to the first byte of a stream,
// and its CPU time a request; then a thousand streams.
import { loadavg } from 'node:os';
import {
  ANTHROPIC_FORM,
  GEMINI_FORM,
  OPENAI_FORM,
  type ProviderForm,
} from '../../scripts/harness/llm/forms.ts';
import { Cleanup } from '../world/cleanup.ts';
import { type Gaps, measureGaps } from './gaps.ts';
import { startPortkey } from './portkey.ts';
import { measureSteady, type Steady, type Target } from './steady.ts';
import { API_KEYS, type System, startLiteLlm, startOutrigger, startProvider } from './systems.ts';

const FORMS = [OPENAI_FORM, ANTHROPIC_FORM, GEMINI_FORM] as const;
const NAMES = { openai: 'OpenAI', anthropic: 'Anthropic', gemini: 'Gemini' } as const;

type Start = (cleanup: Cleanup, url: string, form: ProviderForm, core: number) => Promise<Target | undefined>;

/** How each gateway is started and asked for an API. */
const GATEWAYS: Readonly<Record<string, Start>> = {
  async Outrigger(cleanup, url, { kind }, core) {
    const upstreams = [{ name: 'provider', kind, url: baseOf(url, kind) }];
    return targetOf(await startOutrigger(cleanup, url, core, { upstreams }), {});
  },
  async LiteLLM(cleanup, url, { kind }, core) {
    const params = { model: `${kind}/m` };
    const base = kind === 'openai' ? url : baseOf(url, kind);
    const system = await startLiteLlm(cleanup, { m: base }, core, params);
    const key = API_KEYS['litellm']!;
    const headers = { authorization: `Bearer ${key}`, 'x-api-key': key, 'x-goog-api-key': key };
    return system === undefined ? undefined : targetOf(system, headers);
  },
  async Portkey(cleanup, url, { kind }, core) {
    const system = await startPortkey(cleanup, core);
    const provider = kind === 'gemini' ? 'google' : kind;
    const headers = { 'x-portkey-provider': provider, 'x-portkey-custom-host': baseOf(url, kind) };
    if (system === undefined) return undefined;
    // Of Gemini it takes OpenAI's API alone, and translates.
    const form = kind === 'gemini' ? { form: OPENAI_FORM } : {};
    return { ...targetOf(system, headers), ...form };
  },
};

/** The base URL in the form that an upstream of the kind has. */
function baseOf(url: string, kind: ProviderForm['kind']): string {
  return kind === 'gemini' ? url.replace(/v1$/, 'v1beta') : url;
}

function targetOf({ baseUrl, pid }: System, headers: Target['headers']): Target {
  return { origin: new URL(baseUrl).origin, headers, pid };
}

interface Row {
  readonly name: string;
  /** By kind; a text says why there is none. */
  readonly of: Map<string, Steady | string>;
}

/** @param seconds of each measurement */
export async function measurePeers(
  cleanup: Cleanup,
  cores: readonly [target: number, other: number],
  seconds: number,
) {
  const [core, other] = cores;
  const url = await startProvider(cleanup, other);
  const direct: Target = { origin: new URL(url).origin, headers: {}, pid: undefined };
  const rows: Row[] = [];
  for (const [name, start] of Object.entries(GATEWAYS)) {
    const row: Row = { name, of: new Map() };
    rows.push(row);
    for (const form of FORMS) {
      const own = new Cleanup();
      row.of.set(form.kind, await measured(await start(own, url, form, core), form, direct, seconds));
      await own.run();
      console.log(`${name}, ${form.kind}: ${JSON.stringify(row.of.get(form.kind))}`);
    }
  }
  const outrigger = await startOutrigger(cleanup, url, core);
  const gaps = await measureGaps(outrigger, 1_000, seconds);
  const without = await measureGaps({ name: 'direct', baseUrl: url, pid: undefined }, 1_000, seconds);
  return peersTable(rows, gaps, without);
}

async function measured(
  target: Target | undefined,
  form: ProviderForm,
  direct: Target,
  seconds: number,
): Promise<Steady | string> {
  if (target === undefined) return 'not installed';
  try {
    return await measureSteady(form, direct, target, seconds);
  } catch (error) {
    console.log(`${form.kind}: ${(error as Error).message}`);
    return 'not served';
  }
}

function peersTable(rows: readonly Row[], gaps: Gaps, without: Gaps): string {
  const ours = rows[0]!.of;
  const lines = rows.flatMap(({ name, of }) =>
    FORMS.map(({ kind }) => {
      const steady = of.get(kind)!;
      if (typeof steady === 'string') return `| ${NAMES[kind]} | ${name} | ${steady} | | | |`;
      const own = ours.get(kind);
      const ratio = typeof own === 'object' ? `${(steady.cpuMs / own.cpuMs).toFixed(1)}` : '';
      const { addedMedianMs, addedP99Ms, cpuMs } = steady;
      return `| ${NAMES[kind]} | ${name} | ${addedMedianMs.toFixed(2)} ms | ${addedP99Ms.toFixed(1)} ms | ${cpuMs.toFixed(2)} ms | ${ratio} |`;
    }),
  );
  const gapLine = (name: string, one: Gaps): string =>
    `| ${name} | ${one.complete} of ${one.streams} | ${one.p99Ms.toFixed(1)} ms | ${one.p999Ms.toFixed(1)} ms | ${one.mostMs.toFixed(0)} ms | ${one.cpuPercent === undefined ? '' : `${one.cpuPercent.toFixed(0)} %`} |`;
  return [
    `Load average while it was measured: ${loadavg()[0]!.toFixed(1)}.`,
    '',
    '| API | 40 streams a second | added to the first byte, median | 99th percentile | CPU a request | that of Outrigger is 1 |',
    '| --- | --- | --- | --- | --- | --- |',
    ...lines.sort(),
    '',
    "| 1,000 streams, an event every 250 ms each | came to their end | gap longer than the provider's: p99 | p99.9 | most | CPU of a core |",
    '| --- | --- | --- | --- | --- | --- |',
    gapLine('Outrigger, on one core', gaps),
    gapLine('direct', without),
  ].join('\n');
}
