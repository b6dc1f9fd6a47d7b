// The sixteen faults of a provider: each against the egress, seen by the openai client as it comes and by plain HTTP,
// plain and streamed. No hang beyond the clocks, no half answer that passes for a whole one, no request too many.
import t from 'tap';
import { CLIENTS } from '../scripts/harness/llm/clients.ts';
import { faultSettings, startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { CLOCKS, closedPort, FAULTS } from '../scripts/harness/llm/faults.ts';
import { complaint } from '../scripts/harness/llm/judge.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);
t.jobs = 8;

let cases = 0;
for (const fault of FAULTS) {
  for (const mode of fault.modes) {
    for (const [clientName, ask] of Object.entries(CLIENTS)) {
      const name = `${++cases}`;
      t.test(`${fault.name}, ${mode}, ${clientName}`, { buffered: true }, async (t) => {
        let url = provider.script(name, fault.script);
        if (fault.refused) url = `http://127.0.0.1:${await closedPort()}/v1`;
        const egress = await startEgress(faultSettings(url));
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
