/** Checks of the egress as a service: who may reach it, and by what its callers are known. */
import { readAddress } from '../net/address.ts';
import { isBeyondLoopback } from '../net/reach.ts';
import { checkCertificates, checkFiles, finding } from './file-checks.ts';
import { type Finding, formatPath } from './problems.ts';
import type { Environment, Notice } from './provider-environment.ts';
import type { FileConfig } from './schema.ts';

const TLS_NAMES = { ca: 'client_ca', cert: 'cert', key: 'key' } as const;

export function checkService({ llm }: FileConfig): Finding[] {
  const { listen, tls, callers } = llm;
  const findings: Finding[] = [];
  if (isBeyondLoopback(readAddress(listen)) && callers.length === 0 && tls?.client_ca === undefined)
    findings.push(
      finding(
        ['llm', 'listen'],
        'is open beyond this machine, and whoever reaches it would use the keys of the providers',
        'write 127.0.0.1:15002, or say who may use it: llm.callers with a key each, or llm.tls with client_ca',
      ),
    );
  if (tls !== undefined) {
    const { cert, key, client_ca } = tls;
    findings.push(...checkCertificates(['llm', 'tls'], { cert, key, client_ca }, TLS_NAMES));
    if (listen.startsWith('unix:'))
      findings.push(
        finding(
          ['llm', 'tls'],
          'can not be used on a unix socket',
          'remove it: the permissions of the file decide who may connect',
        ),
      );
  }
  const names = callers.map(({ name }) => name);
  for (const [index, { name, identity, key_env, key_file }] of callers.entries()) {
    const path = ['llm', 'callers', index];
    if (names.indexOf(name) !== index)
      findings.push(
        finding([...path, 'name'], `appears twice: ${name}`, 'give each caller a name of its own'),
      );
    if (identity === null && key_env === null && key_file === null)
      findings.push(
        finding(path, 'has nothing by which it is known', 'give it key_env, key_file or identity'),
      );
    if (identity !== null && tls?.client_ca === undefined)
      findings.push(
        finding(
          [...path, 'identity'],
          'can not be checked without llm.tls.client_ca',
          'give llm.tls with cert, key and client_ca, or let the caller have a key',
        ),
      );
    findings.push(...checkFiles(path, { key_file }, ['key_file'], 'a file that holds the key alone'));
  }
  return findings;
}

/** Keys that whoever is on the network may read. */
export function serviceWarnings({ llm: { listen, tls, callers } }: FileConfig): Finding[] {
  const hasKeys = callers.some(({ key_env, key_file }) => key_env !== null || key_file !== null);
  if (tls !== undefined || !hasKeys || !isBeyondLoopback(readAddress(listen))) return [];
  const message = 'takes the keys of callers in plain text, and prompts too';
  return [
    finding(['llm', 'listen'], message, 'give llm.tls with cert and key, unless a mesh encrypts the network'),
  ];
}

/** Callers that nobody can be, because their key is not there. */
export function serviceNotices({ llm: { callers } }: FileConfig, env: Environment): Notice[] {
  return callers.flatMap(({ key_env: name }, index) => {
    if (name === null || (env[name] ?? '') !== '') return [];
    const path = formatPath(['llm', 'callers', index, 'key_env']);
    const message = `${path}: the variable ${name} is not set, so no request is of this caller by it; set it, or write null`;
    return [{ level: 'warn', message }];
  });
}
