/**
 * `outrigger drain`: notifies the sidecar in the same pod that the pod ends. It is the preStop hook of an injected
 * sidecar.
 */
import { request } from 'node:http';
import { parseAddress } from '../net/address.ts';
import { EXIT, printError } from './command.ts';
import { configure } from './configure.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const TIMEOUT_MS = 5_000;

const HELP: HelpPage = {
  usage: ['drain [--config FILE]'],
  about: `Drains the inbound side of the sidecar on this machine, as the preStop hook of its pod: callers go elsewhere, and the app's own calls are served until SIGTERM. It asks the admin port (admin.listen) and returns at once. ${SETTINGS_NOTE}`,
  flags: CONFIG_FLAGS,
  exits: { 69: 'the sidecar does not answer' },
  more: 'docs/kubernetes.md describes the end of a pod.',
};

/**
 * The sidecar sends callers away, and serves the app's own calls until SIGTERM. The command returns at once: a native
 * sidecar gets SIGTERM after the other containers have ended, with or without a hook.
 */
export async function drain(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const configured = await configure(args);
  if ('exitCode' in configured) return configured.exitCode;
  const { listen } = configured.source.current.admin;
  const where = parseAddress(listen);
  const target =
    where.kind === 'unix'
      ? { socketPath: where.path }
      : { host: where.host === '0.0.0.0' ? '127.0.0.1' : where.host, port: where.port };
  try {
    const status = await post({ ...target, path: '/drain/inbound' });
    if (status === 202) return EXIT.OK;
    printError(`outrigger drain: ${listen} answered ${status}; is that the sidecar's admin.listen?`);
  } catch (error) {
    printError(`outrigger drain: can't reach ${listen} (${(error as Error).message}); check admin.listen`);
  }
  return EXIT.UNAVAILABLE;
}

function post(target: { path: string; host?: string; port?: number; socketPath?: string }): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { Host: 'localhost', 'Content-Length': 0 };
    const asked = request({ ...target, method: 'POST', headers, timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    asked.on('error', reject);
    asked.end();
  });
}
