// `npm run screenshots`: takes the screenshots of the documents. They show the real local system with a killed replica,
// while tasks continue.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium, type Page } from 'playwright-core';

const root = join(import.meta.dirname, '..');
const images = join(root, 'docs', 'images');
const program = process.env['CHROMIUM'] ?? '/usr/bin/chromium';
const limitMs = 90_000;
/** Long enough for the charts to have a shape. */
const trafficMs = 25_000;

const system = spawn(process.execPath, [join(root, 'agents', 'local', 'start.ts')], {
  stdio: ['ignore', 'pipe', 'inherit'],
});
let output = '';
system.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
process.on('exit', () => system.kill('SIGINT'));

/** The first group of the system's output that matches. */
async function printed(pattern: RegExp): Promise<string> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const found = pattern.exec(output)?.[1];
    if (found !== undefined) return found;
    if (system.exitCode !== null || performance.now() > endMs)
      throw new Error(`the local system did not start:\n${output}`);
    await sleep(100);
  }
}

/** Takes a screenshot of the page, up to a height. */
async function shoot(page: Page, name: string, maxHeight: number): Promise<void> {
  const { width } = page.viewportSize()!;
  const height = Math.min(maxHeight, await page.evaluate<number>('document.documentElement.scrollHeight'));
  await page.screenshot({
    path: join(images, `${name}.png`),
    fullPage: true,
    clip: { x: 0, y: 0, width, height },
  });
  console.log(`docs/images/${name}.png`);
}

const url = await printed(/page +(http:\S+)/);
const admin = await printed(/gateway's sidecar .* admin (http:\S+)/);
mkdirSync(images, { recursive: true });
const browser = await chromium.launch({ executablePath: program, args: ['--no-sandbox'] });
try {
  const open = async (address: string, colorScheme: 'light' | 'dark', width = 1100, height = 900) => {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme });
    const page = await context.newPage();
    page.setDefaultTimeout(limitMs);
    await page.goto(address);
    return page;
  };
  const press = (page: Page, name: string) => page.getByRole('button', { name, exact: true }).click();
  const local = await open(url, 'light', 1280, 768);
  await sleep(trafficMs);
  await press(local, 'Kill research-1');
  await local.locator('[data-node="sidecar of research-1"]', { hasText: /ejected · [1-8] s/ }).waitFor();
  const dashboard = await open(admin, 'light', 1280);
  // Three clusters, and their endpoints that are in service.
  await dashboard.locator('.edge.good').nth(5).waitFor({ state: 'attached' });
  await shoot(local, 'local-system', 768);
  await shoot(dashboard, 'dashboard', 900);
  const dark = await open(admin, 'dark', 400);
  await dark.locator('.edge.good').nth(5).waitFor({ state: 'attached' });
  await shoot(dark, 'dashboard-narrow-dark', 1000);
} finally {
  await browser.close();
  system.kill('SIGINT');
  await once(system, 'close');
}
