/** Checks of the egress as a service: who may reach it, and by what its callers are known. */
import { readFileSync } from 'node:fs';
import { keysIn } from '../llm/service/key-lines.ts';
import { readAddress } from '../net/address.ts';
import { isBeyondLoopback } from '../net/reach.ts';
import { checkFiles, finding } from './file-checks.ts';
import { type Finding, formatPath } from './problems.ts';
import type { Environment, Notice } from './provider-environment.ts';
import type { FileConfig } from './schema.ts';
import { checkServiceTls } from './service-tls.ts';

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
  findings.push(...checkServiceTls(['llm', 'tls'], listen, tls));
  const names = callers.map(({ name }) => name);
  const taken = new Set<string>();
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
    const missing = checkFiles(path, { key_file }, ['key_file'], 'a file that holds keys, one a line');
    findings.push(...missing);
    const others = callers.slice(0, index);
    if (key_env !== null && others.some((other) => other.key_env === key_env))
      findings.push(
        finding(
          [...path, 'key_env'],
          'is the key of another caller, too',
          'give each caller a key of its own',
        ),
      );
    if (key_file === null || missing.length > 0) continue;
    const { keys, problems } = keysIn(readFileSync(key_file, 'utf8'));
    if (problems.length > 0)
      findings.push(
        finding(
          [...path, 'key_file'],
          `can not be used: ${problems.join(', ')}`,
          'write keys of 16 characters or more, one a line, such as `openssl rand -hex 32` prints; # begins a comment',
        ),
      );
    if (keys.some((key) => taken.has(key)))
      findings.push(
        finding(
          [...path, 'key_file'],
          'has a key of another caller, too',
          'give each caller a key of its own',
        ),
      );
    for (const key of keys) taken.add(key);
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
    if (name === null) return [];
    const { problems } = keysIn(env[name] ?? '');
    if ((env[name] ?? '') !== '' && problems.length === 0) return [];
    if ((env[name] ?? '') !== '') {
      const path = formatPath(['llm', 'callers', index, 'key_env']);
      const message = `${path}: the variable ${name} can not be used: ${problems.join(', ')}`;
      return [{ level: 'warn', message }];
    }
    const path = formatPath(['llm', 'callers', index, 'key_env']);
    const message = `${path}: the variable ${name} is not set, so no request is of this caller by it; set it, or write null`;
    return [{ level: 'warn', message }];
  });
}
