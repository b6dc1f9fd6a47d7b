// Runs a program with a time limit and keeps its output for the error message.
import { spawn } from 'node:child_process';
import { hostPath, root } from './paths.mjs';

/**
 * Resolves with the program's output. Rejects, with the last lines of it, when the program can't be
 * started, ends with another code than 0, or is still running after `limitMs`: then it is ended with
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
    const endGroup = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It ended by itself in the meantime.
      }
    };
    const onSignal = (signal) => {
      endGroup();
      process.exit(signal === 'SIGINT' ? 130 : 143);
    };
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
    const timer = setTimeout(() => {
      timedOut = true;
      endGroup();
    }, limitMs);
    const keep = (chunk) => {
      output = (output + chunk).slice(-65536);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const settle = (error) => {
      clearTimeout(timer);
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
      if (error === undefined) resolve(output);
      else reject(error);
    };
    child.on('error', (error) => settle(new Error(`${program} can't be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (timedOut) settle(new Error(`${program} took longer than ${Math.round(limitMs / 1000)} s`));
      else if (code === 0) settle(undefined);
      else settle(new Error(`${program} ended with ${code ?? signal}: ${lastLines(output)}`));
    });
  });
}

function lastLines(output) {
  return output.trim().split('\n').slice(-6).join(' | ').slice(-800);
}
