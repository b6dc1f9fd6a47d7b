/** Prepares what the tool runner of a local system needs: its helper and a configuration. */
import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { stringify } from 'yaml';

const program = fileURLToPath(new URL('../../scripts/confine.mjs', import.meta.url));
const limitMs = 60_000;

export type Sandbox = { readonly configFile: string } | { readonly problem: string };

/** The variable with the key of the tool runner's MCP listener. */
export const TOOLS_KEY = 'TOOLS_KEY';

/**
 * Compiles the helper unless it is there already. Without it the system runs without tools.
 *
 * @param mcpPort where the runner serves MCP; undefined where nobody calls it so
 */
export async function prepareSandbox(folder: string, mcpPort?: number): Promise<Sandbox> {
  let compiled: string;
  try {
    compiled = (await promisify(execFile)(process.execPath, [program], { timeout: limitMs })).stdout.trim();
  } catch (error) {
    const said = String((error as { stderr?: string }).stderr || (error as Error).message);
    return { problem: said.trim().split('\n', 1)[0]! };
  }
  const configFile = join(folder, 'tools.yaml');
  // Beside the system's own folder, which no other user may pass: runs are another user where the system is root's.
  const workspaces = mkdtempSync(join(tmpdir(), 'outrigger-tools-'));
  process.once('exit', () => rmSync(workspaces, { recursive: true, force: true }));
  chmodSync(workspaces, 0o711);
  // That user may not pass the project's folder, either.
  const helper = join(workspaces, 'confine');
  copyFileSync(compiled, helper);
  chmodSync(helper, 0o755);
  // A machine without user namespaces has the weaker tier, and the runner says which at its List.
  const tools = {
    minimum: 'landlock',
    helper,
    workspaces: { path: join(workspaces, 'workspaces') },
    status: { listen: null },
    ...(mcpPort === undefined
      ? {}
      : { mcp: { listen: `127.0.0.1:${mcpPort}`, keys: [{ name: 'agents', env: TOOLS_KEY }] } }),
  };
  writeFileSync(configFile, stringify({ tools }));
  return { configFile };
}
