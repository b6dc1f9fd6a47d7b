// A real Chromium without a window. What a page logs as an error is kept: a test that opens a page says what it expects.
import { readFileSync } from 'node:fs';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import type { Test } from 'tap';
import { requireTool } from '../../scripts/harness/tool.ts';

export interface OpenPage {
  readonly page: Page;
  /** Errors of scripts, of the console and of the page's policy. */
  readonly errors: readonly string[];
}

/** What a browser logs by itself for a request that nobody answers. */
const NOT_ANSWERED =
  /^Failed to load resource: (net::ERR_CONNECTION_REFUSED|net::ERR_INCOMPLETE_CHUNKED_ENCODING|net::ERR_CONNECTION_RESET|net::ERR_EMPTY_RESPONSE)/;

/** Ends with the test. */
export async function startBrowser(t: Pick<Test, 'teardown'>): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: requireTool('chromium'),
    // Its own sandbox needs privileges that a container rarely gives.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
    timeout: 60_000,
  });
  t.teardown(() => browser.close());
  return browser;
}

/** @param mayGoAway the test ends the server of the page, which the browser's console reports */
export async function openPage(
  t: Pick<Test, 'teardown'>,
  browser: Browser,
  url: string,
  { mayGoAway = false, ...options }: BrowserContextOptions & { mayGoAway?: boolean } = {},
): Promise<OpenPage> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  t.teardown(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !(mayGoAway && NOT_ANSWERED.test(text))) errors.push(text);
  });
  await page.goto(url);
  return { page, errors };
}

/** How far the page is wider than its window, in pixels; 0 when nothing scrolls sideways. */
export function overflowOf(page: Page): Promise<number> {
  return page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
}

/** Checks the rules of WCAG 2.2 A and AA, and axe's own best practices; returns each broken rule with its elements. */
export async function violationsOf(page: Page): Promise<string[]> {
  await page.evaluate(readFileSync(new URL(import.meta.resolve('axe-core/axe.min.js')), 'utf8'));
  return page.evaluate(`axe.run({ resultTypes: ['violations'] }).then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html, any }) => html.slice(0, 160) + ' ' + (any[0]?.message ?? '')).join(' | ')))`);
}

/** The parts of the page that do not lie within its window, by selector; an element without a size is missing. */
export function outsideOf(page: Page, selectors: readonly string[]): Promise<string[]> {
  return page.evaluate(`${JSON.stringify(selectors)}.filter((selector) => {
    const box = document.querySelector(selector)?.getBoundingClientRect();
    return !box || box.width === 0 || box.top < 0 || box.bottom > innerHeight || box.left < 0 || box.right > innerWidth;
  })`);
}
