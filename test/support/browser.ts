/**
 * A real browser for tests: Chromium without a window, gone with the test.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A page that collects what went wrong in it. */
export interface TestPage {
  readonly page: Page;
  /** Uncaught errors and what the browser refused, such as violations of the content policy. */
  readonly errors: readonly string[];
  /** Keeps a picture when TIDEMARK_TEST_SCREENSHOTS names a folder. */
  readonly screenshot: (name: string) => Promise<void>;
}

/** Opens a browser with one empty page. */
export async function openPage(
  t: TestContext,
  options: BrowserContextOptions = {},
): Promise<TestPage> {
  const browser = await chromium.launch({
    executablePath: process.env['TIDEMARK_TEST_CHROMIUM'] ?? '/usr/bin/chromium',
    args: FLAGS,
  });
  t.after(() => browser.close());
  const context = await browser.newContext({
    viewport: { width: 1366, height: 900 },
    reducedMotion: 'reduce',
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  return {
    page,
    errors,
    async screenshot(name) {
      const folder = process.env['TIDEMARK_TEST_SCREENSHOTS'];
      if (folder === undefined) return;
      mkdirSync(folder, { recursive: true });
      await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    },
  };
}
