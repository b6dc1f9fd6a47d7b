// The webhook as the cluster suite runs it: a process of this machine that the API server asks.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { get, kubectl } from './kubectl.ts';

/** The address by which the API server reaches this machine. */
const host = process.env['OUTRIGGER_TEST_HOST'] ?? '127.0.0.1';
export const system = 'outrigger-system';
const patient = { everyMs: 250 };

export type RunningWebhook = TestProcess & { readonly healthPort: number };

/** The webhook as the manifests run it: with the rights of its service account and nothing more. */
export async function startWebhook(
  folder: string,
  listen: number,
  more: string[] = [],
): Promise<RunningWebhook> {
  const args = [
    'webhook',
    `--secret=${system}/outrigger-webhook-certificate`,
    '--configuration=outrigger',
    ...more,
  ];
  return runWebhook(args, listen, join(folder, 'webhook.kubeconfig'));
}

/**
 * Runs a webhook with these arguments on this machine, for the API server and with a certificate for it.
 *
 * @param checkout another checkout whose webhook to run
 */
export async function runWebhook(
  args: readonly string[],
  listen: number,
  kubeconfig: string,
  checkout = join(import.meta.dirname, '..', '..'),
): Promise<RunningWebhook> {
  const healthPort = await freePort();
  const started = startProcess(
    t,
    process.execPath,
    [
      join(checkout, 'sidecar', 'main.ts'),
      ...args,
      `--listen=0.0.0.0:${listen}`,
      `--health=127.0.0.1:${healthPort}`,
      `--metrics=127.0.0.1:${await freePort()}`,
      `--name=${host}`,
      '--drain-delay=0s',
    ],
    { env: { KUBECONFIG: kubeconfig } },
  );
  try {
    await waitUntil(
      'the webhook is ready',
      async () => (await fetch(`http://127.0.0.1:${healthPort}/healthz/ready`)).ok,
      patient,
    );
  } catch (error) {
    throw new Error(`the webhook did not get ready:\n${started.logs()}`, { cause: error });
  }
  return { ...started, healthPort };
}

/** Where the API server reaches a webhook of this machine. */
export const urlOf = (port: number): string => `https://${host}:${port}/mutate`;

/** A kubeconfig like the suite's, with the token of a service account. @returns the file */
export async function writeKubeconfig(file: string, account: string, namespace: string): Promise<string> {
  const config = JSON.parse(
    await kubectl(['config', 'view', '--raw', '--minify', '--flatten', '-o', 'json']),
  );
  const token = (await kubectl(['create', 'token', account, '-n', namespace])).trim();
  config.users = [{ name: config.users[0].name, user: { token } }];
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

/** The manifests' configuration, asking this machine instead of the Service. */
export async function pointHere(port: number): Promise<void> {
  const { webhooks } = await get('mutatingwebhookconfiguration', 'outrigger');
  const operations = webhooks.map((_: unknown, index: number) => ({
    op: 'replace',
    path: `/webhooks/${index}/clientConfig`,
    value: { url: urlOf(port) },
  }));
  await kubectl([
    'patch',
    'mutatingwebhookconfiguration',
    'outrigger',
    '--type=json',
    `-p=${JSON.stringify(operations)}`,
  ]);
}

export async function setFailurePolicy(policy: 'Ignore' | 'Fail'): Promise<void> {
  const operations = [0, 1].map((index) => ({
    op: 'replace',
    path: `/webhooks/${index}/failurePolicy`,
    value: policy,
  }));
  await kubectl([
    'patch',
    'mutatingwebhookconfiguration',
    'outrigger',
    '--type=json',
    `-p=${JSON.stringify(operations)}`,
  ]);
}
