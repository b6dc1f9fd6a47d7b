/** Checks of the MCP egress that span several settings, and its settings that work and are surely a mistake. */
import { covers } from '../llm/shared/model-pattern.ts';
import { readAddress } from '../net/address.ts';
import { isBeyondLoopback, reaches } from '../net/reach.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { checkCertificates, checkFiles, finding } from './file-checks.ts';
import type { Finding } from './problems.ts';
import type { FileConfig } from './schema.ts';
import { checkServiceTls } from './service-tls.ts';

type FileServer = FileConfig['mcp']['servers'][string];

export function checkMcp({ mcp }: FileConfig): Finding[] {
  const findings = Object.entries(mcp.servers).flatMap(([name, server]) =>
    checkServer(['mcp', 'servers', name], server, mcp.listen),
  );
  if (isBeyondLoopback(readAddress(mcp.listen)) && mcp.tls?.client_ca === undefined) {
    const message = 'is open beyond this machine, and whoever reaches it calls tools with our keys';
    const remedy =
      'write 127.0.0.1:15003, or unix:/PATH, or let callers show a certificate: mcp.tls with client_ca';
    findings.push(finding(['mcp', 'listen'], message, remedy));
  }
  findings.push(...checkServiceTls(['mcp', 'tls'], mcp.listen, mcp.tls));
  const { base, max } = mcp.retry.backoff;
  if (parseDurationMs(base)! > parseDurationMs(max)!) {
    const path = ['mcp', 'retry', 'backoff', 'base'];
    findings.push(finding(path, 'is longer than max', 'raise max or lower base'));
  }
  return findings;
}

function checkServer(
  path: string[],
  { url, ca, cert, key, api_key_file }: FileServer,
  listen: string,
): Finding[] {
  const { protocol, hostname, port } = new URL(url);
  const address = `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`;
  if (reaches(readAddress(address), readAddress(listen)))
    return [
      finding(
        [...path, 'url'],
        'is our own mcp.listen: requests would loop',
        'write the address of the server',
      ),
    ];
  const findings = [
    ...checkFiles(path, { api_key_file }, ['api_key_file'], 'a file that holds the key alone'),
    ...checkCertificates(
      path,
      { ca: ca ?? undefined, cert: cert ?? undefined, key: key ?? undefined },
      { ca: 'ca', cert: 'cert', key: 'key' },
    ),
  ];
  if ((cert === null) !== (key === null)) {
    const [given, other] = cert === null ? ['key', 'cert'] : ['cert', 'key'];
    findings.push(finding([...path, given], `has no use without ${other}`, `give ${other}, too`));
  }
  for (const [name, file] of Object.entries({ ca, cert, key }))
    if (file !== null && protocol === 'http:')
      findings.push(finding([...path, name], 'has no use without TLS', 'write an https url, or remove it'));
  return findings;
}

export function mcpWarnings({ mcp }: FileConfig): Finding[] {
  return Object.entries(mcp.servers).flatMap(([name, { tools }]) => {
    const path = ['mcp', 'servers', name, 'tools'];
    if (tools.length === 0) {
      const message = 'is empty: the agent sees no tool of this server';
      return [warning(path, message, 'list the tools, or remove the server')];
    }
    return tools.flatMap((pattern, index) => {
      const by = tools.findIndex(
        (other, at) => at !== index && covers(other, pattern) && (at < index || !covers(pattern, other)),
      );
      if (by < 0) return [];
      const message = `adds no tool: ${JSON.stringify(tools[by])} lets each one through that it would`;
      return [warning([...path, index], message, 'remove one of the two')];
    });
  });
}

function warning(path: Finding['path'], message: string, remedy: string): Finding {
  return { path, part: 'value', message, remedy };
}
