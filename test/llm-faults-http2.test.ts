// The sixteen faults of a provider over HTTP/2: the same table as over HTTP/1.1 (llm-faults.test.ts).
import t from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { testFaultTable } from './llm/fault-cases.ts';
import { providerFor } from './llm/set-up.ts';

const authority = await TestAuthority.make();
const issued = await authority.issue({ names: ['127.0.0.1'] });
const { ca } = new SecretVolume(t, { ...issued, ca: authority.ca });
await testFaultTable(t, await providerFor(t, issued), ca);
