// The sixteen faults of a provider over HTTP/1.1: no hang beyond the clocks, no half answer that passes for a whole one, no
// request too many.
import t from 'tap';
import { testFaultTable } from './llm/fault-cases.ts';
import { providerFor } from './llm/set-up.ts';

await testFaultTable(t, await providerFor(t));
