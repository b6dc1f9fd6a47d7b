// The page of the local system in a real browser: replicas are broken and mended by its buttons, and tasks go on.
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Browser, Locator, Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { createGateway } from '../agents/gateway/app.ts';
import { readGatewaySettings } from '../agents/gateway/settings.ts';
import { childrenOf, commandOf, isAlive, type Run, runStart } from '../agents/local/test-support.ts';
import { testAgent } from '../agents/test-support.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { openPage, outsideOf, overflowOf, startBrowser, violationsOf } from './support/browser.ts';

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

/** A node of the topology: `gateway`, `sidecar of research-1`, `research-1`, `model`. */
const node = (page: Page, id: string) => page.locator(`[data-node="${id}"]`);
const edge = (page: Page, id: string) => page.locator(`[data-edge="${id}"]`);

/** Waits until an element says something. */
function says(what: Locator, pattern: RegExp): Promise<string> {
  let text = '';
  return waitUntil(
    `${what} says ${pattern}`,
    async () => {
      text = (await what.textContent()) ?? '';
      return pattern.test(text) && text;
    },
    limits,
  ).catch((error) => {
    throw new Error(`${error.message}; it says: ${text}`);
  });
}

const press = (page: Page, label: string) => page.getByRole('button', { name: label, exact: true }).click();

/** A number of the row at the top. */
async function numberOf(page: Page, label: string): Promise<number> {
  const text = await page.locator('.fact', { hasText: label }).locator('.value').innerText();
  return Number(text.replaceAll(',', ''));
}

const failedTasks = (page: Page) =>
  page.locator('.fact', { hasText: 'Tasks OK' }).locator('.detail').innerText();

/** Waits until so many more tasks have succeeded. */
async function moreTasks(page: Page, count: number): Promise<void> {
  const before = await numberOf(page, 'Tasks OK');
  await waitUntil(
    `${count} more tasks have succeeded`,
    async () => (await numberOf(page, 'Tasks OK')) >= before + count,
    limits,
  );
}

/** What a person sees of a fault and of its consequences. */
const firstScreen = [
  '#numbers',
  '#topology',
  '#history',
  '#happened-title',
  '#running-title',
  '#strip',
  '#keep',
];

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
  await tasksByThemselves(t, browser, system);
  await aTaskAndItsWay(t, browser, system);
  await costsAndNothingYet(t, browser, system);
  await killAndRestore(t, browser, system);
  await stopAndSlow(t, browser, system);
  await aTaskOnTheBus(t, browser, system);
  await byKeyboardInANarrowWindow(t, browser, system);
  await theApiPage(t, browser, system);
  await theReportOfALoad(t, browser, system);
  await onlyItsOwnPage(t, system);
  await theEnd(t, system);
  await aGatewayAlone(t, browser);
});

function tasksByThemselves(t: Test, browser: Browser, { url, run }: LocalSystem) {
  return t.test('tasks start by themselves, and the page shows where they go', async (t) => {
    const { page, errors } = await openPage(t, browser, url, { viewport: { width: 1280, height: 800 } });
    await moreTasks(page, 4);
    t.same(await outsideOf(page, firstScreen), [], 'all of it is on the first screen');
    await page.setViewportSize({ width: 1366, height: 768 });
    t.same(await outsideOf(page, firstScreen), [], "and on a laptop's");
    const runners = /tool runner is left out/.test(run.output()) ? 0 : 1;
    t.equal(
      await page.locator('.node').count(),
      10 + 2 * runners,
      'gateway, agents and tool runner with sidecars, model',
    );
    for (const id of ['gateway to research-1', 'to research-1', 'research-1 to model'])
      await says(edge(page, id), /[\d.]+\/s · 100 %/);
    await waitUntil(
      'calls go over each edge',
      async () => (await page.locator('.edge.good, .edge.slow').count()) === 12 + runners,
      limits,
    );
    await says(node(page, 'research-1'), /From sidecar: [\d.]+ calls a second, 100 % succeed, p95/);
    t.match(await node(page, 'research-1').innerText(), /research-1\s*up\s*127\.0\.0\.1:\d+ · process \d+/);
    const links = await page
      .locator('.node a')
      .evaluateAll((all) => all.map((link) => String((link as unknown as { href: string }).href)));
    t.equal(links.length, 5 + runners);
    for (const link of links) t.match(await (await fetch(link)).text(), /dashboard\.js/, link);
    await waitUntil(
      'the chart has a point',
      async () =>
        /lowest success 100 %/.test((await page.locator('#history svg').getAttribute('aria-label')) ?? ''),
      limits,
    );
    t.ok((await numberOf(page, 'Tokens used')) > 100);
    t.same(await violationsOf(page), []);

    await press(page, 'Pause tasks');
    await page.getByRole('button', { name: 'Send tasks' }).waitFor();
    await waitUntil(
      'the last ones have ended, and the numbers agree',
      async () => {
        const [, sent] =
          /^(\d+) sent: \1 succeeded, 0 failed\./.exec(await page.locator('#sent').innerText()) ?? [];
        return Number(sent) === (await numberOf(page, 'Tasks OK'));
      },
      limits,
    );
    const paused = await numberOf(page, 'Tasks OK');
    await page.reload();
    await page.getByRole('button', { name: 'Send tasks' }).waitFor();
    await says(edge(page, 'gateway to research-1'), /no calls/);
    t.equal(await numberOf(page, 'Tasks OK'), paused, 'another page does not start what the user has paused');
    t.same(await violationsOf(page), []);
    t.same(errors, []);
  });
}

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
  return t.test('the page sends a task, shows its answer and route, and finds it by its id', async (t) => {
    const { page, errors } = await openPage(t, browser, url);
    await node(page, 'code-1').waitFor();
    await page.locator('select').selectOption('writing');
    await page.locator('textarea').fill('A haiku on drains <img src=x onerror="window.injected=1">');
    await press(page, 'Send');
    await page.locator('#outcome', { hasText: /^Done in \d+ ms, task [0-9a-f-]{36}$/ }).waitFor();
    t.equal(
      await page.locator('#route').innerText(),
      'gateway → its sidecar → sidecar of writing-1 → writing-1: OK',
    );
    t.match(await page.locator('#answer').innerText(), /drains/);
    t.equal(await page.evaluate('window.injected'), undefined, 'what was asked is text');
    const { sent } = (await (await fetch(`${url}local/state`)).json()) as {
      sent: { recent: { taskId: string }[] };
    };
    const id = sent.recent.at(-1)!.taskId;
    await page.getByRole('searchbox').fill(id.slice(-12));
    await says(page.locator('#found tbody'), new RegExp(`^${id}succeeded\\w+, [\\d.]+ m?s$`));
    const own = (await page.locator('#outcome').innerText()).slice(-36);
    await page.getByRole('searchbox').fill(own);
    await says(page.locator('#found tbody'), new RegExp(`^${own}succeededwriting, `));
    await page.getByRole('searchbox').fill('<b>');
    await says(page.locator('#found .empty'), /No task of the last minutes has this id/);
    t.same(errors, []);
  });
}

/** Shows the page a report that differs from the real one. */
async function withReport(page: Page, change: (report: Report) => object): Promise<void> {
  await page.route('**/local/state', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: change((await answer.json()) as Report) });
  });
  await page.reload();
}

interface Report {
  readonly sent: object;
  readonly model: object;
  readonly numbers: object;
  readonly history: object;
}

function costsAndNothingYet(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('tasks that cost money do not start by themselves, and an empty page says so', async (t) => {
    const { page, errors } = await openPage(t, browser, url, { viewport: { width: 1280, height: 800 } });
    let commands = 0;
    page.on('request', (request) => {
      if (request.method() === 'POST') commands++;
    });
    const none = { succeeded: 0, failed: 0 };
    await withReport(page, (report) => ({
      ...report,
      events: [],
      history: { ...report.history, newest_at: null },
      numbers: { ...report.numbers, ...none },
      model: { offline: false, url: 'https://api.openai.com/v1' },
      sent: { ...report.sent, ...none, sending: false, paused: false, costs: true, total: 0, recent: [] },
    }));
    await page.getByRole('button', { name: 'Send tasks: they cost money' }).waitFor();
    await says(
      page.locator('#cost'),
      /https:\/\/api\.openai\.com\/v1 with your key and cost money, so none starts by itself/,
    );
    await says(page.locator('#history'), /The chart begins with the first ten seconds/);
    await says(page.locator('#running'), /No call is in flight/);
    t.same(await violationsOf(page), []);
    t.equal(commands, 0, 'the page starts nothing');

    let requests = 0;
    await page.evaluate(
      `Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })`,
    );
    // A request that was due may still go out.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    page.on('request', () => requests++);
    await new Promise((resolve) => setTimeout(resolve, 2_200));
    t.equal(requests, 0, 'a hidden page asks for nothing');
    t.same(errors, []);
  });
}

function killAndRestore(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('a fault and its consequences are on one screen, and no task fails', async (t) => {
    const { page, errors } = await openPage(t, browser, url, { viewport: { width: 1280, height: 800 } });
    await press(page, 'Send tasks');
    await moreTasks(page, 6);
    const saved = await numberOf(page, 'Saved by retries');
    await press(page, 'Kill research-1');
    await says(node(page, 'research-1'), /dead.*no process/);
    await says(node(page, 'sidecar of research-1'), /ejected · \d+ s|unreachable/);
    await edge(page, 'gateway to research-1').and(page.locator('.bad')).waitFor();
    t.match(await edge(page, 'gateway to research-1').textContent(), /✕/, 'not by colour alone');
    await says(page.locator('#happened'), /research-1 \([\d.:]+\) is ejected/);
    await says(page.locator('#happened'), /A retry saved a task: research-1 UNAVAILABLE, then research-2 OK/);
    await waitUntil(
      'the number of saved tasks',
      async () => (await numberOf(page, 'Saved by retries')) > saved,
      limits,
    );
    t.ok((await page.locator('.mark-line.bad').count()) > 0, 'the chart marks the ejection');
    await moreTasks(page, 6);
    t.match(await failedTasks(page), /none failed/);
    t.same(await outsideOf(page, [...firstScreen, '[data-node="research-1"]']), [], 'all without scrolling');
    t.equal(await page.evaluate('scrollY'), 0);
    t.same(await violationsOf(page), []);
    await press(page, 'Restore research-1');
    await says(node(page, 'research-1'), /up.*process \d+/);
    await says(node(page, 'sidecar of research-1'), /in service/);
    await moreTasks(page, 4);
    t.match(await failedTasks(page), /none failed/);
    t.same(errors, []);
  });
}

function aTaskOnTheBus(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('a submitted task finishes although its replica is killed in the middle', async (t) => {
    const { page, errors } = await openPage(t, browser, url);
    const story = page.locator('#bus-story');
    const answer = page.locator('#bus-answer');
    const tasks = page.locator('#bus-tasks tbody');
    await press(page, 'Submit a long task');
    const [, replica = ''] = /(research-\d) runs it \(run 1\)/.exec(
      await says(story, /research-\d runs it \(run 1\)/),
    )!;
    await says(tasks, new RegExp(`researchrunning1${replica}`));
    const begun = await says(answer, /\S+ \S+ \S+/);
    await press(page, `Kill ${replica}`);
    const other = replica === 'research-1' ? 'research-2' : 'research-1';
    await says(story, new RegExp(`waits for another\\..*${other} runs it \\(run 2\\)`));
    await says(tasks, new RegExp(`researchrunning2, 1 lost${other}`));
    await press(page, `Restore ${replica}`);
    await says(story, /Done in run 2\./);
    await says(tasks, /researchdone2, 1 lost/);
    const text = await answer.innerText();
    t.equal(text.split(begun.slice(0, 20)).length, 2, 'the text of the lost run is dropped');
    t.match(text, /no model answered this/, 'to its end');
    t.same(await violationsOf(page), []);
    t.same(errors, []);
  });
}

function stopAndSlow(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the sidecar detects a hanging and a slow replica, too', async (t) => {
    const { page, errors } = await openPage(t, browser, url, { colorScheme: 'dark' });
    const sidecar = node(page, 'sidecar of research-2');
    await says(sidecar, /in service/);
    await moreTasks(page, 10);
    await press(page, 'Stop research-2');
    await says(node(page, 'research-2'), /stopped/);
    await says(page.locator('#running tbody'), /ProcessTask…[0-9a-f]{8}1research-2/);
    const waiting = (await (await fetch(`${url}local/state`)).json()) as {
      running: { calls: { task_id: string; age_ms: number }[] };
    };
    const ages = waiting.running.calls.map(({ age_ms: age }) => age);
    t.same(
      ages,
      ages.toSorted((one, other) => other - one),
      'the oldest call is first',
    );
    await says(sidecar, /ejected/);
    await moreTasks(page, 6);
    t.same(await violationsOf(page), []);
    await press(page, 'Restore research-2');
    await says(node(page, 'research-2'), /up/);
    await says(sidecar, /in service/);
    await press(page, 'Slow research-2');
    await says(node(page, 'research-2'), /slow/);
    await says(sidecar, /ejected/);
    await press(page, 'Restore research-2');
    await says(node(page, 'research-2'), /up/);
    t.match(await failedTasks(page), /none failed/);
    t.same(errors, []);
  });
}

function byKeyboardInANarrowWindow(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the page works in a narrow window, by keyboard, in light and dark', async (t) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const viewport = { width: 390, height: 844 };
      const { page, errors } = await openPage(t, browser, url, { viewport, colorScheme });
      await node(page, 'code-1').waitFor();
      t.equal(await overflowOf(page), 0, 'nothing scrolls sideways');
      const kill = page.getByRole('button', { name: 'Kill code-1' });
      for (let count = 0; count < 60 && !(await kill.evaluate(isFocused)); count++)
        await page.keyboard.press('Tab');
      t.ok(await kill.evaluate(isFocused), 'Tab leads there');
      t.equal(await page.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'solid');
      await page.keyboard.press('Enter');
      await says(node(page, 'code-1'), /dead/);
      t.ok(await kill.evaluate(isFocused), 'the focus stays where it was');
      const restore = page.getByRole('button', { name: 'Restore code-1' });
      for (let count = 0; count < 3; count++) await page.keyboard.press('Tab');
      t.ok(await restore.evaluate(isFocused));
      await waitUntil(
        'it can be restored',
        async () => (await restore.getAttribute('aria-disabled')) === 'false',
      );
      if (colorScheme === 'light') t.same(await violationsOf(page), []);
      await page.keyboard.press('Space');
      await says(node(page, 'code-1'), /up/);
      t.equal(await overflowOf(page), 0);
      t.same(errors, []);
    }
  });
}

function theApiPage(t: Test, browser: Browser, { url }: LocalSystem) {
  return t.test('the page of the API is for everybody, too', async (t) => {
    for (const colorScheme of ['light', 'dark'] as const) {
      const viewport = { width: 390, height: 844 };
      const { page, errors } = await openPage(t, browser, `${url}docs`, { viewport, colorScheme });
      t.same(await page.locator('h2').allInnerTexts(), [
        'POST /api/v1/tasks',
        'GET /api/v1/tasks',
        'GET /api/v1/tasks/{id}',
        'DELETE /api/v1/tasks/{id}',
        'GET /api/v1/tasks/{id}/events',
        'GET /api/v1/health',
      ]);
      t.same(await violationsOf(page), []);
      t.equal(await overflowOf(page), 0);
      t.same(errors, []);
    }
  });
}

function theReportOfALoad(t: Test, browser: Browser, { run }: LocalSystem) {
  return t.test('the report of a load is for everybody, too', async (t) => {
    const [, target = ''] = /writing-1 .*sidecar ([\d.:]+),/.exec(run.output()) ?? [];
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-report-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const program = join(import.meta.dirname, '..', 'bench', 'load', 'main.ts');
    const options = ['--rate', '10', '--duration', '1s', '--warmup', '0s', '--out', join(folder, 'report')];
    await runProcess(t, process.execPath, [program, '--target', target, ...options]);
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page, errors } = await openPage(t, browser, `file://${folder}/report.html`, { colorScheme });
      await page.getByRole('heading', { name: /ProcessTask to/ }).waitFor();
      t.same(await violationsOf(page), []);
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
