// A real Chromium without a window. What a page logs as an error is kept: a test that opens a page says what it expects.
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
