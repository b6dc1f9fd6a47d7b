// Runs a program with a time limit and keeps its output for the error message.
import { spawn } from 'node:child_process';
import { hostPath, root } from './paths.mjs';

/** The running process groups; they all end with the install. */
const groups = new Set();

function endAll() {
  for (const pid of groups) endGroup(pid);
}

function endGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group has ended by itself in the meantime.
  }
}

process.on('exit', endAll);
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

/**
 * Resolves with the program's output. Rejects, with the last lines of it, when the program can't be
 * started, exits with another code than 0, or is still running after `limitMs`: then we kill it with
 * everything it started.
 */
export function run(program, args, { limitMs, env = {}, cwd = root }) {
  return new Promise((resolve, reject) => {
    let output = '';
    let timedOut = false;
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, PATH: hostPath, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a process group of its own, so that the limit ends its children too
    });
    if (child.pid !== undefined) groups.add(child.pid);
    const timer = setTimeout(() => {
      timedOut = true;
      endGroup(child.pid);
    }, limitMs);
    const keep = (chunk) => {
      output = (output + chunk).slice(-65536);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const settle = (error) => {
      clearTimeout(timer);
      groups.delete(child.pid);
      if (error === undefined) resolve(output);
      else reject(error);
    };
    child.on('error', (error) => settle(new Error(`${program} can't be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (timedOut) settle(new Error(`${program} took longer than ${Math.round(limitMs / 1000)} s`));
      else if (code === 0) settle(undefined);
      else settle(new Error(`${program} exited with ${code ?? signal}: ${gist(output)}`));
    });
  });
}

/** The lines that a program marks as errors, or those that mention one, or else the last lines. */
function gist(output) {
  const lines = output
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => !/^(npm error|npm warn)?$/.test(line));
  const marked = lines.filter((line) => /^(npm error|E:|error\b|fatal\b)/i.test(line));
  const speaking = lines.filter((line) => /error|fail|cannot|unable|missing/i.test(line));
  const chosen = [marked, speaking].find((some) => some.length > 0)?.slice(0, 4) ?? lines.slice(-4);
  return chosen.join(' | ').slice(0, 500);
}
