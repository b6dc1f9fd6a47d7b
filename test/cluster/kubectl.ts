// kubectl as the cluster suite uses it: JSON in and out, and an error with what it said.
import { spawn } from 'node:child_process';

export interface KubectlResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is run. */
export const program = process.env['KUBECTL'] ?? 'kubectl';
const limitMs = 60_000;

/** Runs kubectl; `input` is its standard input. Never rejects because of what kubectl says. */
export function tryKubectl(args: readonly string[], input = ''): Promise<KubectlResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: limitMs });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.on('error', (error) =>
      reject(
        new Error(`${program} can't be started (${error.message}); install it, or set KUBECTL to its path`),
      ),
    );
    child.on('close', (code) => resolve({ code: code ?? 1, stdout, stderr }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** Throws what kubectl said when it failed. */
export async function kubectl(args: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await tryKubectl(args, input);
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
export type KubernetesObject = any;

export async function get(...args: string[]): Promise<KubernetesObject> {
  return JSON.parse(await kubectl(['get', ...args, '-o', 'json']));
}

/** Applies as people should: unknown and repeated fields are errors. */
export function apply(object: KubernetesObject | string): Promise<KubectlResult> {
  const input = typeof object === 'string' ? object : JSON.stringify(object);
  return tryKubectl(['apply', '--validate=strict', '-f', '-'], input);
}
