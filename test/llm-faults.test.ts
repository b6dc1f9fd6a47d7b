// The sixteen faults of a provider, for each of the three APIs: each against the egress, seen by plain HTTP, and by the openai
// client as it comes; plain and streamed. No hang beyond the clocks, no half answer that passes for a whole one, no
// request too many.
import t from 'tap';
import { CLIENTS, type Client, httpClient } from '../scripts/harness/llm/clients.ts';
import { faultSettings, startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { CLOCKS, closedPort, faultsOf } from '../scripts/harness/llm/faults.ts';
import { ANTHROPIC_FORM, GEMINI_FORM, OPENAI_FORM, type ProviderForm } from '../scripts/harness/llm/forms.ts';
import { complaint } from '../scripts/harness/llm/judge.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);
// Nearly all of their time is waiting for a clock.
t.jobs = 16;

const KINDS: readonly (readonly [form: ProviderForm, clients: Readonly<Record<string, Client>>])[] = [
  [OPENAI_FORM, CLIENTS],
  [ANTHROPIC_FORM, { http: httpClient(ANTHROPIC_FORM) }],
  [GEMINI_FORM, { http: httpClient(GEMINI_FORM) }],
];

let cases = 0;
for (const [form, clients] of KINDS) {
  for (const fault of faultsOf(form)) {
    for (const mode of fault.modes) {
      for (const [clientName, ask] of Object.entries(clients)) {
        const name = `${++cases}`;
        t.test(`${form.kind}: ${fault.name}, ${mode}, ${clientName}`, { buffered: true }, async (t) => {
          let url = provider.script(name, fault.script);
          if (fault.refused) url = `http://127.0.0.1:${await closedPort()}/v1`;
          const egress = await startEgress(faultSettings(url, form.kind));
          t.teardown(() => egress.close());
          const limitMs = CLOCKS.totalMs + 12_000;
          const seen = await ask({ baseUrl: egress.baseUrl, model: 'm', stream: mode === 'stream', limitMs });
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
