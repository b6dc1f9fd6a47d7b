// The dashboard of a real sidecar, read in a real browser while real faults happen behind it.
import { status } from '@grpc/grpc-js';
import type { Browser, Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { answerWhole, sendError, startLlmProvider } from '../scripts/harness/llm/provider.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { outriggerVersion } from '../sidecar/telemetry/version.ts';
import { chat, send } from './llm/send.ts';
import { ok, trailersOnly } from './support/answers.ts';
import { openPage, outsideOf, overflowOf, startBrowser, violationsOf } from './support/browser.ts';
import { startUpstream } from './support/upstream.ts';

// Chromium and a sidecar take long to start on a machine that is busy with other tests.
t.setTimeout(290_000);

const HOSTILE = '<img src=x onerror="window.injected=1"><script>window.injected=1</script>';
const limits = { everyMs: 100 };

/** Two replicas of `research`, of which one fails; a `writing` that always fails; a `gone` that nobody listens for. */
async function startSystem(t: Test, writing: object = {}) {
  const replica = { answer: trailersOnly(status.UNAVAILABLE) };
  const on = (answer: typeof ok) => ({
    onCall: (call: Parameters<typeof ok>[1]) => answer(call.stream, call),
  });
  const good = await startUpstream(t, on(ok));
  const other = await startUpstream(
    t,
    on((stream, call) => replica.answer(stream, call)),
  );
  const failing = await startUpstream(t, on(trailersOnly(status.INTERNAL)));
  const nobody = `127.0.0.1:${await freePort()}`;
  const quick = { outlier_detection: { consecutive_failures: 3, base_ejection_time: '60s' } };
  const cluster = (endpoints: string[]) => ({ endpoints, balancer: 'round_robin', ...quick });
  const config = {
    name: `agent ${HOSTILE}`,
    admin: { peers: [{ address: other.address, name: 'research-2', page: 'http://127.0.0.1:1/' }] },
    version: '7.8.9',
    inbound: { app: good.address },
    outbound: {
      routes: ['research', 'writing', 'gone', 'mixed'].map((name) => ({
        match: { authority: name },
        cluster: name,
      })),
      clusters: {
        research: cluster([good.address, other.address]),
        writing: { ...cluster([failing.address]), ...writing },
        gone: cluster([nobody]),
        mixed: cluster([`127.0.0.1:${await freePort()}`, good.address]),
      },
    },
  };
  const sidecar = await startSidecar(t, config);
  const clientOf = (authority: string) =>
    new RawClient(t, sidecar.outboundPort, { 'grpc.default_authority': authority });
  const clients = new Map<string, RawClient>();
  const call = (name: string, path?: string) => {
    const client = clients.get(name) ?? clientOf(name);
    clients.set(name, client);
    return client.unary(Buffer.from('x'), path === undefined ? {} : { path });
  };
  return {
    sidecar,
    config,
    good,
    other,
    nobody,
    replica,
    call,
    url: `http://127.0.0.1:${sidecar.adminPort}/`,
  };
}

type System = Awaited<ReturnType<typeof startSystem>>;

/** Calls until the replica that fails has been ejected, the circuit of `writing` is open and `gone` was tried. */
async function breakThings({ call }: System): Promise<void> {
  for (let count = 0; count < 10; count++) await call('research');
  for (let count = 0; count < 8; count++) await call('writing');
  await call('gone');
  for (let count = 0; count < 2; count++) await call('mixed');
}

const textOf = (page: Page, selector: string): Promise<string> => page.locator(selector).innerText();

/** Waits until an element says something. */
function says(page: Page, selector: string, pattern: RegExp): Promise<string> {
  return waitUntil(
    `${selector} says ${pattern}`,
    async () => {
      const text = await textOf(page, selector);
      return pattern.test(text) && text;
    },
    limits,
  ).catch(async (error) => {
    throw new Error(`${error.message}; it says: ${await textOf(page, selector)}`);
  });
}

t.test('the dashboard works in a browser', { skip: skipWithout('chromium') }, async (t) => {
  const browser = await startBrowser(t);

  t.test('an operator sees ejected endpoints, why, for how long, and the failed calls', async (t) => {
    const system = await startSystem(t);
    const { page, errors } = await openPage(t, browser, system.url);
    await says(page, '#connection', /^live$/);
    t.match(
      await textOf(page, '#attention'),
      /^All is well: 7 endpoints are in service, no circuit is open\.$/,
    );
    t.match(await textOf(page, '#calls-title ~ #no-calls'), /No call has failed so far/);
    t.equal(await textOf(page, '#ready'), 'ready');
    const about = await textOf(page, '#about');
    t.match(about, `Outrigger ${outriggerVersion()}, sidecar of agent `, 'its own version');
    t.match(about, /\(app version 7\.8\.9\)/, 'and the other one, with its name');

    t.same(await violationsOf(page), [], 'while nothing has happened');
    await inFlight(page, system);

    await breakThings(system);
    await says(
      page,
      '#attention',
      new RegExp(`research-2 · ${system.other.address} of research is ejected: 3 failures in a row`),
    );
    await says(page, '#attention', /The circuit of writing Raw\/Unary is open: 5 calls in a row failed/);
    const row = page.locator('tr.endpoint', { hasText: system.other.address });
    t.match(await row.locator('.state').innerText(), /^ejected, (\d+ min )?\d+ s left$/);
    const good = page.locator('tr.endpoint', { hasText: system.good.address }).last();
    t.match(await good.innerText(), /in service/);
    t.match(await row.innerText(), /1 OK, 3 with an error/, 'in plain words');
    t.match(
      await textOf(page, '#clusters'),
      /Circuit open: Raw\/Unary, half-open in \d+ s, \d+ calls rejected; 5 calls in a row/,
    );
    await says(page, '#events', /ejection/);
    await says(page, '#events', /the circuit of writing\/test\.Raw\/Unary is open/);

    await topologyOfFaults(t, page, system);

    const outbound = page.locator('#traffic article', { hasText: 'Outbound' });
    await waitUntil(
      'all is counted',
      async () => /23 calls and 12 errors/.test(await outbound.innerText()),
      limits,
    );
    await waitUntil(
      'the percentiles are there',
      async () => /p99\s*≤ 5 ms|p99\s*\d/.test(await outbound.innerText()),
      limits,
    );
    await waitUntil(
      'the chart shows the calls',
      async () =>
        /the highest rate is [\d.]*[1-9]/.test(
          (await outbound.locator('svg').getAttribute('aria-label')) ?? '',
        ),
      limits,
    );
    // A line needs two seconds to lead from one to the other.
    await waitUntil(
      'a line is drawn',
      async () => (await outbound.locator('.calls-line').getAttribute('d'))!.length > 10,
      limits,
    );
    await waitUntil(
      'the errors are drawn',
      async () => (await outbound.locator('.errors-area').getAttribute('d'))!.length > 10,
      limits,
    );

    const open = page.locator('.call', { hasText: 'UNAVAILABLE circuit_open' }).first();
    await open.locator('summary').click();
    t.match(await open.innerText(), /sent it to no endpoint/);
    t.match(await open.innerText(), /The sidecar made no attempt/);
    const failed = page.locator('.call', { hasText: 'INTERNAL' }).first();
    await failed.locator('summary').click();
    t.match(await failed.innerText(), /answered INTERNAL, after/);
    const saved = page.locator('.call', { hasText: 'OK, saved by a retry' }).first();
    t.match(await saved.locator('summary').innerText(), /mixed · 2 attempts/);
    await saved.locator('summary').click();
    const way = await saved.locator('.attempt').allInnerTexts();
    t.equal(way.length, 2, 'each attempt is there');
    t.match(way[0], /^127\.0\.0\.1:\d+\s*UNAVAILABLE\s*the sidecar could not connect, after/);
    t.match(way[1], new RegExp(`^${system.good.address}\\s*OK\\s*answered, after`));
    await page.getByRole('searchbox').fill('no-such-task');
    await says(page, '#no-calls', /No failed call has this task id/);
    await says(page, '#running', /No call in flight has this task id/);
    t.same(errors, []);
  });

  await namesAreText(t, browser);
  await narrowAndByKeyboard(t, browser);
  await lightAndDark(t, browser);
  await restart(t, browser);
  await models(t, browser);
  await silence(t, browser);
  await hidden(t, browser);
  await flood(t, browser);
});

/** One replica holds its call for a while. */
async function inFlight(page: Page, { call, replica, other }: System): Promise<void> {
  const held: (() => void)[] = [];
  const before = replica.answer;
  replica.answer = (stream, given) => void held.push(() => ok(stream, given));
  const calls = [call('research'), call('research')];
  await says(
    page,
    '#running tbody',
    new RegExp(`Raw/Unary\\s+–\\s+1, attempting\\s+research-2 · ${other.address}`),
  );
  for (const answer of held) answer();
  await Promise.all(calls);
  replica.answer = before;
  await says(page, '#running', /No call is in flight/);
}

async function topologyOfFaults(t: Test, page: Page, { other, url }: System): Promise<void> {
  const node = page.locator(`[data-node="research ${other.address}"]`);
  t.match(await node.innerText(), new RegExp(`research-2\\s*ejected · \\d+ s\\s*${other.address}`));
  t.equal(await node.locator('a').getAttribute('href'), 'http://127.0.0.1:1/', 'the way to the next sidecar');
  const edge = page.locator(`[data-edge="to research ${other.address}"]`);
  t.match(await edge.getAttribute('class'), /bad/);
  t.match(await edge.textContent(), /✕/, 'not by colour alone');
  t.match(await page.locator('[data-node="cluster writing"]').innerText(), /circuit open/);
  t.match(await page.locator('.fact', { hasText: 'Saved by retries' }).innerText(), /[1-9]/);
  await page.setViewportSize({ width: 1280, height: 800 });
  t.same(await outsideOf(page, ['#attention', '#numbers', '#topology .node', '#topology-title']), []);
  const ends = await page.locator('#topology').boundingBox();
  t.ok(ends!.y + ends!.height < 1000, `${url}: the picture comes first`);
  await page.setViewportSize({ width: 1200, height: 900 });
}

function namesAreText(t: Test, browser: Browser) {
  return t.test('the page shows names with HTML as text', async (t) => {
    const system = await startSystem(t);
    const { page, errors } = await openPage(t, browser, system.url);
    t.equal((await system.call('writing', `/test.${HOSTILE}/Call`)).code, status.INTERNAL);
    t.equal((await system.call('nowhere', '/x/y')).code, status.UNIMPLEMENTED);
    await says(page, '#calls', /<img src=x onerror="window.injected=1">/);
    await says(page, '#calls', /UNIMPLEMENTED no_route/);
    t.equal(await textOf(page, '#name'), `agent ${HOSTILE}`);
    t.equal(await page.evaluate('document.images.length'), 1, "the one that is the page's own");
    t.equal(await page.evaluate('window.injected'), undefined);
    t.same(errors, []);
  });
}

function narrowAndByKeyboard(t: Test, browser: Browser) {
  return t.test('the page works in a narrow window and by keyboard', async (t) => {
    const system = await startSystem(t);
    await breakThings(system);
    await system.call('writing', `/test.${'Long'.repeat(40)}/${'Method'.repeat(20)}`);
    const { page, errors } = await openPage(t, browser, system.url, {
      viewport: { width: 360, height: 640 },
    });
    await says(page, '#events', /circuit/);
    t.equal(await overflowOf(page), 0, 'nothing scrolls sideways');
    t.same(await violationsOf(page), []);
    await page.keyboard.press('Tab');
    t.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    for (let count = 0; count < 12; count++) {
      if ((await page.evaluate('document.activeElement.tagName')) === 'SUMMARY') break;
      await page.keyboard.press('Tab');
    }
    t.equal(await page.evaluate('document.activeElement.tagName'), 'SUMMARY', 'a call that went wrong');
    await page.keyboard.press('Enter');
    t.ok(await page.evaluate('document.activeElement.parentElement.open'), 'Enter opens it');
    const outline = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle');
    t.equal(outline, 'solid', 'and the focus is seen');
    // Snapshots come every second; a new call comes at the top.
    await system.call('writing', '/test.Raw/Another');
    await says(page, '#calls', /Raw\/Another/);
    t.ok(await page.evaluate('document.activeElement.parentElement.open'), 'it stays open, with its focus');
    t.equal(await overflowOf(page), 0);
    t.same(errors, []);
  });
}

/** The contrast of every element's own text against what is behind it, by WCAG 2: runs in the page. */
const LOWEST_CONTRAST = `(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  canvas.canvas.width = canvas.canvas.height = 1;
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb.map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let lowest = { ratio: 21, text: '' };
  for (const node of document.querySelectorAll('body *')) {
    const text = [...node.childNodes].filter((child) => child.nodeType === 3).map((child) => child.data).join('').trim();
    if (text === '' || node.getClientRects().length === 0) continue;
    const behind = [];
    for (let at = node; at !== null; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const [one, other] = [luminance(over([...behind, getComputedStyle(node).color])), luminance(over(behind))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < lowest.ratio) lowest = { ratio, text };
  }
  return lowest;
})()`;

function lightAndDark(t: Test, browser: Browser) {
  return t.test('light and dark follow the system, with enough contrast', async (t) => {
    const system = await startSystem(t);
    await breakThings(system);
    const backgrounds = new Set<unknown>();
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page, errors } = await openPage(t, browser, system.url, { colorScheme });
      await says(page, '#events', /circuit/);
      await page.locator('.call summary').first().click();
      backgrounds.add(await page.evaluate('getComputedStyle(document.body).backgroundColor'));
      const { ratio, text } = (await page.evaluate(LOWEST_CONTRAST)) as { ratio: number; text: string };
      t.same(await violationsOf(page), [], colorScheme);
      t.ok(
        ratio >= 4.5,
        `${colorScheme}: ${ratio.toFixed(2)} is the lowest contrast, of "${text.slice(0, 40)}"`,
      );
      t.same(errors, []);
    }
    t.equal(backgrounds.size, 2);
  });
}

function restart(t: Test, browser: Browser) {
  return t.test('the page finds a restarted sidecar again, and says so', async (t) => {
    const system = await startSystem(t);
    await breakThings(system);
    const { page, errors } = await openPage(t, browser, system.url, { mayGoAway: true });
    await says(page, '#events', /ejection/);
    system.sidecar.kill('SIGKILL');
    await system.sidecar.ended;
    await says(page, '#connection', /^no connection$/);
    t.match(
      await textOf(page, '#notice'),
      /^No connection to the sidecar since \d\d:\d\d:\d\d\. This page retries by itself/,
    );
    t.match(await textOf(page, '#clusters'), /ejected/, 'the last values stay visible');
    const { inboundPort, outboundPort, adminPort, metricsPort, healthPort, llmPort } = system.sidecar;
    const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
    await startSidecar(t, {
      ...system.config,
      inbound: { ...system.config.inbound, ...at(inboundPort) },
      outbound: { ...system.config.outbound, ...at(outboundPort) },
      admin: at(adminPort),
      metrics: at(metricsPort),
      health: at(healthPort),
      llm: at(llmPort),
    });
    await says(page, '#connection', /^live$/);
    await says(page, '#notice', /^The sidecar was restarted; this page connected again at/);
    await says(page, '#attention', /^All is well/);
    t.notMatch(await textOf(page, '#events'), /ejection/, 'the events of the earlier run have disappeared');
    t.match(await textOf(page, '#main'), /No call has failed so far/);
    t.same(errors, []);
  });
}

function models(t: Test, browser: Browser) {
  return t.test(
    'each model shows its rate, errors, times and rest, and Now names who throttles',
    async (t) => {
      const provider = await startLlmProvider();
      t.teardown(() => provider.close());
      const url = provider.script('models', (request, response) => {
        const { model } = request.json as { model: string };
        if (model === 'gpt-5-mini') return answerWhole(request, response);
        sendError(response, model === 'busy' ? 429 : 401, model === 'busy' ? { 'retry-after': '600' } : {});
      });
      const sidecar = await startSidecar(
        t,
        {
          inbound: { app: 'none' },
          llm: { upstreams: [{ name: 'acme', kind: 'openai', url }], retry: { max_attempts: 1 } },
        },
        { until: 'live' },
      );
      const ask = (model: string) =>
        send(`http://127.0.0.1:${sidecar.llmPort}/v1`, '/chat/completions', chat({ model }), {
          'x-task-id': 'task-7',
        }).answer;
      const { page, errors } = await openPage(t, browser, `http://127.0.0.1:${sidecar.adminPort}/`);
      await says(page, '#connection', /^live$/);
      for (const model of ['gpt-5-mini', 'gpt-5-mini', 'busy', 'denied', 'denied', 'denied'])
        await ask(model);
      const row = (model: string) => `#llm-models tr:has-text("${model}")`;
      await says(
        page,
        row('gpt-5-mini'),
        /acme\s+gpt-5-mini\s+2\s+0\s+.*ms, .*ms\s+24\s+0\.0000\d+\s+0, 0\s+–/,
      );
      await says(page, '#llm-spending', /^Spend most: task-7 0\.0000\d+ USD/);
      await says(page, row('busy'), /1 × 429[\s\S]*\d\d:\d\d:\d\d \(429\)/);
      await says(page, row('denied'), /3 × 401/);
      await says(page, '#attention', /acme[\s\S]*throttle|asked for a pause/);
      await says(page, '#attention', /acme refuses denied with 401/);
      t.match(await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json(), {
        llm: { models: [{ upstream: 'acme' }, { upstream: 'acme' }, { upstream: 'acme' }] },
      });
      t.equal(await overflowOf(page), 0, 'the table scrolls within its box');
      t.same(errors, []);
    },
  );
}

function silence(t: Test, browser: Browser) {
  return t.test('the page distinguishes a hanging sidecar from a healthy one', async (t) => {
    const system = await startSystem(t);
    const { page, errors } = await openPage(t, browser, system.url, { mayGoAway: true });
    await says(page, '#connection', /^live$/);
    system.sidecar.kill('SIGSTOP');
    await says(page, '#connection', /^not answering$/);
    t.match(await textOf(page, '#notice'), /The sidecar has sent nothing since/);
    system.sidecar.kill('SIGCONT');
    await says(page, '#connection', /^live$/);
    await waitUntil('the notice has disappeared', async () => (await textOf(page, '#notice')) === '', limits);
    t.same(errors, []);
  });
}

function hidden(t: Test, browser: Browser) {
  return t.test('a hidden page costs the sidecar nothing', async (t) => {
    const system = await startSystem(t);
    const { page, errors } = await openPage(t, browser, system.url);
    await says(page, '#connection', /^live$/);
    const show = (state: string) =>
      page.evaluate(`Object.defineProperty(document, 'visibilityState', { value: '${state}', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'))`);
    await show('hidden');
    await says(page, '#connection', /^paused while hidden$/);
    const before = await textOf(page, '#about');
    await breakThings(system);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    t.equal(await textOf(page, '#about'), before, 'nothing comes any more');
    await show('visible');
    await says(page, '#connection', /^live$/);
    await says(page, '#attention', /ejected/);
    t.same(errors, []);
  });
}

function flood(t: Test, browser: Browser) {
  return t.test('a flood of failures does not grow the page', async (t) => {
    // Its circuit never opens: what that turns away has few places of its own.
    const system = await startSystem(t, { circuit_breaker: { consecutive_failures: 0, failure_percent: 0 } });
    const { page, errors } = await openPage(t, browser, system.url);
    let more = true;
    const flooding = (async () => {
      while (more) await Promise.all(Array.from({ length: 10 }, () => system.call('writing')));
    })();
    const full = () => page.locator('#calls > li').count();
    await waitUntil('the list is full', async () => (await full()) === 50, limits);
    await says(page, '#skipped', /left out [\d,]+ more that came too quickly/);
    const before = await page.evaluate<number>('document.querySelectorAll("*").length');
    const newest = await page.locator('#calls time').first().getAttribute('datetime');
    await waitUntil(
      'newer ones have come',
      async () => (await page.locator('#calls time').first().getAttribute('datetime')) !== newest,
      limits,
    );
    more = false;
    await flooding;
    t.ok((await full()) <= 50);
    const after = await page.evaluate<number>('document.querySelectorAll("*").length');
    t.ok(after < before * 1.2, `${before} elements, then ${after}`);
    t.same(errors, []);
  });
}
