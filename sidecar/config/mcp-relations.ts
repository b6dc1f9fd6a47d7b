/** Checks of the MCP egress that span several settings, and its settings that work and are surely a mistake. */
import { covers } from '../llm/shared/model-pattern.ts';
import { readAddress } from '../net/address.ts';
import { isBeyondLoopback, reaches } from '../net/reach.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { checkCertificates, checkFiles, finding } from './file-checks.ts';
import type { Finding } from './problems.ts';
import type { FileConfig } from './schema.ts';

type FileServer = FileConfig['mcp']['servers'][string];

export function checkMcp({ mcp }: FileConfig): Finding[] {
  const findings = Object.entries(mcp.servers).flatMap(([name, server]) =>
    checkServer(['mcp', 'servers', name], server, mcp.listen),
  );
  if (isBeyondLoopback(readAddress(mcp.listen))) {
    const message = 'is open beyond this machine, and whoever reaches it calls tools with our keys';
    findings.push(finding(['mcp', 'listen'], message, 'write 127.0.0.1:15003, or unix:/PATH'));
  }
  const { base, max } = mcp.retry.backoff;
  if (parseDurationMs(base)! > parseDurationMs(max)!) {
    const path = ['mcp', 'retry', 'backoff', 'base'];
    findings.push(finding(path, 'is longer than max', 'raise max or lower base'));
  }
  return findings;
}

function checkServer(path: string[], { url, ca, api_key_file }: FileServer, listen: string): Finding[] {
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
    ...(ca === null ? [] : checkCertificates(path, { ca }, { ca: 'ca', cert: 'cert', key: 'key' })),
  ];
  if (ca !== null && protocol === 'http:')
    findings.push(finding([...path, 'ca'], 'has no use without TLS', 'write an https url, or remove it'));
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
