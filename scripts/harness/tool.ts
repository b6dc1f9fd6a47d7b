// The tools and peers that `npm test` installs (scripts/install.mjs --tests).
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type ToolName =
  | 'h2spec'
  | 'h2load'
  | 'nghttpd'
  | 'prometheus'
  | 'promtool'
  | 'chromium'
  | 'grpc-go-client'
  | 'grpc-go-server'
  | 'connectconformance'
  | 'conformance-client'
  | 'conformance-server'
  | 'python'
  | 'python-opentelemetry'
  | 'python-package'
  | 'python-generator'
  | 'langgraph'
  | 'model-clients'
  | 'anthropic-node'
  | 'mcp-node'
  | 'mcp-node-v1'
  | 'mcp-python'
  | 'kustomize'
  | 'helm'
  | 'kubernetes-validate'
  | 'hadolint'
  | 'istio-crds'
  | 'gateway-crds'
  | 'certificate-crds'
  | 'issuer-crds'
  | 'nft'
  | 'ip'
  | 'envoy'
  | 'haproxy'
  | 'nginx'
  | 'nats-server'
  | 'grpcurl'
  | 'scaled-object-crds'
  | 'trigger-authentication-crds'
  | 'keda-proto'
  | 'bwrap'
  | 'confine'
  | 'runsc'
  | 'taskset'
  | 'node20'
  | 'node22';

const folder = join(import.meta.dirname, '..', '..', '.cache', 'tools');

/** The program's path, or undefined if its installation failed. */
export function tool(name: ToolName): string | undefined {
  const path = read('found.json')[name];
  return path !== undefined && existsSync(path) ? path : undefined;
}

/**
 * The value of `skip` in `t.test`'s options: false when all tools are there, otherwise which one is missing and why,
 * which the report shows beside the test's name.
 */
export function skipWithout(...names: ToolName[]): string | false {
  for (const name of names) {
    if (tool(name) === undefined) {
      return `without ${name}: ${read('missing.json')[name] ?? 'run node scripts/install.mjs --tests'}`;
    }
  }
  return false;
}

/** The path of a tool that `skipWithout` has found. */
export function requireTool(name: ToolName): string {
  const path = tool(name);
  if (path === undefined) throw new Error(`${name} is not installed: run node scripts/install.mjs --tests`);
  return path;
}

function read(file: string): Record<string, string> {
  try {
    return JSON.parse(readFileSync(join(folder, file), 'utf8'));
  } catch {
    return {};
  }
}
