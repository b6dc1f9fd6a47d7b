// The page of the local system in a real browser: replicas are broken and mended by its buttons, and tasks go on.
import { request } from 'node:http';
import { pino } from 'pino';
import type { Browser, Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { createGateway } from '../agents/gateway/app.ts';
import { readGatewaySettings } from '../agents/gateway/settings.ts';
import { childrenOf, commandOf, isAlive, type Run, runStart } from '../agents/local/test-support.ts';
import { testAgent } from '../agents/test-support.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { openPage, overflowOf, startBrowser } from './support/browser.ts';

// A whole system and a browser take long to start on a machine that is busy with other tests.
t.setTimeout(290_000);

const limits = { everyMs: 100 };

interface LocalSystem {
  readonly run: Run;
  readonly url: string;
}

async function startSystem(t: Test, args: string[] = []): Promise<LocalSystem> {
  const run = runStart(t, args);
  const url = await waitUntil(
    'the system is up',
    () => {
      if (run.child.exitCode !== null) throw new Error(run.output());
      return /Ctrl-C stops it/.test(run.output()) && /page +(http:\S+)/.exec(run.output())?.[1];
    },
    { ...limits, limitMs: 90_000 },
  );
  return { run, url };
}

const card = (page: Page, name: string) => page.locator('.replicas .card', { hasText: name });

/** Waits until the card of a replica says something. */
function says(page: Page, name: string, pattern: RegExp): Promise<string> {
  let text = '';
  return waitUntil(
    `${name} says ${pattern}`,
    async () => {
      text = await card(page, name).innerText();
      return pattern.test(text) && text;
    },
    limits,
  ).catch((error) => {
    throw new Error(`${error.message}; it says: ${text}`);
  });
}

const press = (page: Page, label: string) => page.getByRole('button', { name: label, exact: true }).click();

async function counts(page: Page): Promise<{ succeeded: number; failed: number }> {
  const text = await page.locator('#sent').innerText();
  const [, succeeded = 0, failed = 0] = /(\d+) succeeded, (\d+) failed/.exec(text) ?? [];
  return { succeeded: Number(succeeded), failed: Number(failed) };
}

/** Waits until so many more tasks have succeeded. */
async function moreTasks(page: Page, count: number): Promise<void> {
  const before = (await counts(page)).succeeded;
  await waitUntil(
    `${count} more tasks have succeeded`,
    async () => (await counts(page)).succeeded >= before + count,
    limits,
  );
}

/** An HTTP request as no browser would send it. */
function ask(url: string, method: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    asked.on('error', reject);
    asked.end();
  });
}

t.test('the page works in a browser', { skip: skipWithout('chromium') }, async (t) => {
  const browser = await startBrowser(t);
  const system = await startSystem(t);
  await aTaskAndItsWay(t, browser, system);
  await killAndRestore(t, browser, system);
  await stopAndSlow(t, browser, system);
  await byKeyboardInANarrowWindow(t, browser, system);
  await onlyItsOwnPage(t, system);
  await theEnd(t, system);
  await aGatewayAlone(t, browser);
});

function aGatewayAlone(t: Test, browser: Browser) {
  return t.test('a gateway without a local system shows its agents', async (t) => {
    const { server } = await testAgent(t, {});
    const settings = readGatewaySettings({
      RESEARCH_AGENT_ADDR: server.address,
      CODE_AGENT_ADDR: '127.0.0.1:1',
    });
    const gateway = await createGateway(settings, pino({ level: 'silent' }));
    t.teardown(() => gateway.stop(0));
    const url = await gateway.app.listen({ host: '127.0.0.1', port: 0 });
    const { page, errors } = await openPage(t, browser, url);
    const row = (type: string) => page.locator('#agents tr', { hasText: type });
    await row('research')
      .filter({ hasText: /test-agent.*1\.2\.3.*healthy/ })
      .waitFor();
    await row('code')
      .filter({ hasText: /UNAVAILABLE/ })
      .waitFor();
    t.same(await page.locator('select option').allInnerTexts(), ['research', 'writing', 'code']);
    t.same(errors, []);
  });
}

function aTaskAndItsWay(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the page sends a task, and shows its answer and route', async (t) => {
    const { page, errors } = await openPage(t, browser, url);
    await card(page, 'code-1').waitFor();
    t.equal(await page.locator('.replicas .card').count(), 4);
    await page.locator('select').selectOption('writing');
    await page.locator('textarea').fill('A haiku on drains <img src=x onerror="window.injected=1">');
    await press(page, 'Send');
    await page.locator('#outcome', { hasText: /^Done in \d+ ms, task [0-9a-f-]{36}$/ }).waitFor();
    t.equal(
      await page.locator('#route').innerText(),
      'gateway → its sidecar → sidecar of writing-1 → writing-1: OK',
    );
    t.match(await page.locator('#answer').innerText(), /A haiku on drains <img src=x/);
    t.equal(await page.evaluate('window.injected'), undefined, 'what was asked is text');
    const links = await page
      .locator('.replicas a, #gateway-dashboard')
      .evaluateAll((all) => all.map((link) => String((link as unknown as { href: string }).href)));
    t.equal(links.length, 5);
    for (const link of links) t.match(await (await fetch(link)).text(), /dashboard\.js/, link);
    t.same(errors, []);
  });
}

function killAndRestore(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('a killed replica is ejected while tasks succeed, and returns', async (t) => {
    const { page, errors } = await openPage(t, browser, url);
    await says(page, 'research-1', /running[\s\S]*in service/);
    await page.locator('select').selectOption('research');
    await press(page, 'Keep sending');
    await moreTasks(page, 8);
    await press(page, 'Kill research-1');
    await says(page, 'research-1', /killed[\s\S]*no process/);
    await says(page, 'research-1', /sidecar: (ejected, \d+ s left|unreachable)/);
    await moreTasks(page, 10);
    t.equal((await counts(page)).failed, 0, 'no task has failed');
    t.match(
      await page.locator('#happened').innerText(),
      /research-1 is (ejected|unreachable)[\s\S]*You killed research-1/,
    );
    await press(page, 'Restore research-1');
    await says(page, 'research-1', /running[\s\S]*process \d+[\s\S]*Gateway’s sidecar: in service/);
    await moreTasks(page, 8);
    t.equal((await counts(page)).failed, 0);
    await press(page, 'Stop sending');
    t.same(errors, []);
  });
}

function stopAndSlow(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the sidecar detects a hanging and a slow replica, too', async (t) => {
    const { page, errors } = await openPage(t, browser, url);
    await says(page, 'research-2', /in service/);
    await press(page, 'Keep sending');
    await moreTasks(page, 20);
    await press(page, 'Stop research-2');
    await says(page, 'research-2', /stopped/);
    await says(page, 'research-2', /sidecar: ejected/);
    await moreTasks(page, 10);
    await press(page, 'Restore research-2');
    await says(page, 'research-2', /running[\s\S]*sidecar: in service/);
    await press(page, 'Slow research-2');
    await says(page, 'research-2', /slow/);
    await says(page, 'research-2', /sidecar: ejected/);
    await press(page, 'Restore research-2');
    await says(page, 'research-2', /running/);
    await press(page, 'Stop sending');
    t.equal((await counts(page)).failed, 0, 'no task has failed');
    t.same(errors, []);
  });
}

function byKeyboardInANarrowWindow(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the page works in a narrow window, by keyboard, in light and dark', async (t) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const viewport = { width: 360, height: 640 };
      const { page, errors } = await openPage(t, browser, url, { viewport, colorScheme });
      await card(page, 'code-1').waitFor();
      t.equal(await overflowOf(page), 0, 'nothing scrolls sideways');
      const kill = page.getByRole('button', { name: 'Kill code-1' });
      for (let count = 0; count < 60 && !(await kill.evaluate(isFocused)); count++)
        await page.keyboard.press('Tab');
      t.ok(await kill.evaluate(isFocused), 'Tab leads there');
      await page.keyboard.press('Enter');
      await says(page, 'code-1', /killed/);
      t.ok(await kill.evaluate(isFocused), 'the focus stays where it was');
      const restore = page.getByRole('button', { name: 'Restore code-1' });
      for (let count = 0; count < 3; count++) await page.keyboard.press('Tab');
      t.ok(await restore.evaluate(isFocused));
      await waitUntil(
        'it can be restored',
        async () => (await restore.getAttribute('aria-disabled')) === 'false',
      );
      await page.keyboard.press('Space');
      await says(page, 'code-1', /running/);
      t.equal(await overflowOf(page), 0);
      t.same(errors, []);
    }
  });
}

/** Runs in the page. */
function isFocused(node: unknown): boolean {
  return (globalThis as unknown as { document: { activeElement: unknown } }).document.activeElement === node;
}

function onlyItsOwnPage(t: Test, { url }: LocalSystem) {
  return t.test('no other page can kill a replica', async (t) => {
    const kill = `${url}local/replicas/writing-1/kill`;
    const { host } = new URL(url);
    const refused: [string, Record<string, string>][] = [
      ['a name that was made to point here', { host: 'evil.example' }],
      ['a form of another site', { origin: 'http://evil.example' }],
      ['a form without an origin', { origin: 'null' }],
      ['a script of another site', { 'sec-fetch-site': 'cross-site', origin: `http://${host}` }],
      ['another server of this machine', { 'sec-fetch-site': 'same-site', origin: 'http://127.0.0.1:1' }],
    ];
    for (const [who, headers] of refused) t.equal(await ask(kill, 'POST', headers), 403, who);
    t.equal(await ask(kill, 'GET', {}), 404, 'a link or an image does nothing');
    t.equal(await ask(`${url}local/replicas/gateway/kill`, 'POST', {}), 404);
    t.equal(await ask(`${url}local/replicas/writing-1/explode`, 'POST', {}), 404);
    t.equal(await ask(`${url}local/replicas/..%2f..%2fstate/kill`, 'POST', {}), 404);
    const state = (await (await fetch(`${url}local/state`)).json()) as { replicas: { state: string }[] };
    t.same(new Set(state.replicas.map(({ state }) => state)), new Set(['running']), 'nothing was killed');
  });
}

function theEnd(t: Test, { url, run }: LocalSystem) {
  return t.test('the system ends completely, also with a hanging replica', async (t) => {
    t.equal(await ask(`${url}local/replicas/research-1/stop`, 'POST', {}), 200);
    const children = childrenOf(run.child.pid!);
    t.ok(children.some((pid) => commandOf(pid).includes('agents/research/agent.ts')));
    run.child.kill('SIGKILL');
    await run.ended;
    await waitUntil('all have ended', () => !children.some(isAlive), limits);
    t.pass('nothing is left, also when the starter is killed');
  });
}
