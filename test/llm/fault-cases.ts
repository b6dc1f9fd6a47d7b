// The sixteen faults of a provider, for each of the three APIs: each against the egress, seen by plain HTTP, and by the openai
// client as it comes; plain and streamed.
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { CLIENTS, type Client, httpClient } from '../../scripts/harness/llm/clients.ts';
import { faultSettings, startEgress } from '../../scripts/harness/llm/egress-listener.ts';
import { CLOCKS, faultsOf } from '../../scripts/harness/llm/faults.ts';
import {
  ANTHROPIC_FORM,
  GEMINI_FORM,
  OPENAI_FORM,
  type ProviderForm,
} from '../../scripts/harness/llm/forms.ts';
import { complaint } from '../../scripts/harness/llm/judge.ts';
import { type LlmProvider, sendJson } from '../../scripts/harness/llm/provider.ts';

const KINDS: readonly (readonly [form: ProviderForm, clients: Readonly<Record<string, Client>>])[] = [
  [OPENAI_FORM, CLIENTS],
  [ANTHROPIC_FORM, { http: httpClient(ANTHROPIC_FORM) }],
  [GEMINI_FORM, { http: httpClient(GEMINI_FORM) }],
];

const JOBS = 16;

/** @param ca a file with the authority of the provider's certificate, for one with TLS */
export async function testFaultTable(
  t: Test,
  provider: LlmProvider,
  ca: string | null = null,
): Promise<void> {
  await warmUp(provider, ca);
  // Nearly all of their time is waiting for a clock.
  t.jobs = JOBS;
  let cases = 0;
  for (const [form, clients] of KINDS) {
    for (const fault of faultsOf(form)) {
      for (const mode of fault.modes) {
        for (const [clientName, ask] of Object.entries(clients)) {
          const name = `${++cases}`;
          t.test(`${form.kind}: ${fault.name}, ${mode}, ${clientName}`, { buffered: true }, async (t) => {
            let url = provider.script(name, fault.script);
            if (fault.refused) url = `${ca === null ? 'http' : 'https'}://127.0.0.1:${await freePort()}/v1`;
            const egress = await startEgress(faultSettings(url, form.kind, ca));
            t.teardown(() => egress.close());
            const limitMs = CLOCKS.totalMs + 12_000;
            const seen = await ask({
              baseUrl: egress.baseUrl,
              model: 'm',
              stream: mode === 'stream',
              limitMs,
            });
            const about = JSON.stringify({
              ...seen,
              text: seen.text.length,
              message: seen.message.slice(0, 200),
            });
            t.equal(complaint(fault, seen, provider.requests(name).length), undefined, about);
            // Where a status can still be given it says why; in a stream the error event does, which plain HTTP may skip. A
            // large plain answer is passed on before its end is known: only breaking it off is left.
            if (
              fault.status === undefined &&
              fault.name !== 'oversized response' &&
              seen.kind === 'error' &&
              (mode === 'plain' || clientName === 'openai')
            )
              t.match(seen.message, /scripted: \w+/, 'the message names the upstream and the cause');
          });
        }
      }
    }
  }
}

/** Code that runs for the first time takes long on a busy machine, and the clocks of the table are short. */
async function warmUp(provider: LlmProvider, ca: string | null): Promise<void> {
  for (let round = 0; round < 3; round++)
    for (const [form, clients] of KINDS) {
      const url = provider.script('warm-up', (_request, response) => sendJson(response, 200, form.whole));
      await Promise.all(
        Array.from({ length: JOBS / 2 }, async () => {
          const egress = await startEgress({ upstreams: [{ name: 'scripted', kind: form.kind, url, ca }] });
          for (const ask of Object.values(clients))
            await ask({ baseUrl: egress.baseUrl, model: 'm', stream: false, limitMs: 60_000 });
          egress.close();
        }),
      );
    }
}
