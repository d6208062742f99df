/**
 * The page in a real browser over a control in memory: what it shows, what it lets whom do, by keyboard,
 * in light and dark. TIDEMARK_TEST_SCREENSHOTS names a folder for pictures.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Page } from 'playwright-core';
import { freePort } from '../../tools/servers.ts';
import { aPartition } from '../support/fake-control.ts';
import { openPage } from '../support/browser.ts';
import { eventually } from '../support/eventually.ts';
import { listeningServer, OPERATOR_TOKEN, TOKENS, VIEWER_TOKEN } from '../support/http-fixture.ts';

async function opened(t: TestContext, options: Parameters<typeof openPage>[1] = {}) {
  const server = await listeningServer(t);
  const browser = await openPage(t, options);
  await browser.page.goto(`${server.address}/`);
  await browser.page.getByText('Live', { exact: true }).waitFor();
  return { ...server, ...browser };
}

const verdict = (page: Page) => page.locator('#verdict-title');
const rowOf = (page: Page, table: string, first: string) =>
  page.locator(`#${table} tbody tr`, {
    has: page.locator('td', { hasText: new RegExp(`^${first}$`) }),
  });

test('one screen says that all is well, with every number it rests on', async (t) => {
  const { page, control, errors, screenshot } = await opened(t);
  const nowMs = Date.now();
  for (let minute = 0; minute < 12; minute += 1) {
    const readAt = new Date(nowMs + minute * 60_000).toISOString();
    control.show({
      readAt,
      rates: { recordsPerSecond: 900 + ((minute * 137) % 400), eventsPerSecond: 880 + minute * 10 },
    });
  }
  await page.getByRole('heading', { name: 'All is well' }).waitFor();
  assert.equal(await page.title(), 'usage-events · Tidemark');
  const partition = await rowOf(page, 'partitions', '1').innerText();
  assert.match(partition, /running\s+worker-2\s+0\s+0 s\s+1,000\s+1,000\s+2026-11-23 04:20:00/);
  for (const [label, value] of [
    ['Late', '7'],
    ['Duplicates', '90'],
    ['Dead letters', '10'],
    ['Restarts', '0'],
    ['Memory', '256MiB'],
    ['Behind', '0'],
  ]) {
    const tile = page.locator('.tile', { has: page.getByText(label!, { exact: true }) });
    assert.equal((await tile.locator('.value').innerText()).replaceAll(/\s/g, ''), value, label);
  }
  assert.match(await rowOf(page, 'tables', 'bronze.usage_events').innerText(), /12\s+3,000\s+12/);
  assert.match(await rowOf(page, 'queues', 'silver').innerText(), /1\s+0\s+0\s+5\s+0/);
  const chart = page.getByRole('img', { name: /^Throughput per second from .* now records in/ });
  assert.ok((await chart.locator('.curve').first().getAttribute('d'))!.includes('L'));
  await screenshot('all-is-well-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await screenshot('all-is-well-dark');
  assert.deepEqual(errors, []);
});

test('a part that stopped is said first and with its reason', async (t) => {
  const { page, control, screenshot } = await opened(t);
  const reason = 'offsets 12 to 90 were deleted before Tidemark read them';
  control.show({
    health: 'failed',
    findings: [
      { severity: 'failed', subject: 'partition 2', message: reason },
      { severity: 'warning', subject: 'silver', message: 'Behind for 75 s.' },
    ],
    partitions: [
      aPartition(0),
      aPartition(1, { lag: 12_345, lagSeconds: 75, endOffset: 13_345 }),
      aPartition(2, { state: 'failed', reason, worker: null, lag: null, endOffset: null }),
    ],
    hops: [
      { stage: 'bronze', behind: 12_345, lagSeconds: 75 },
      { stage: 'silver', behind: 3, lagSeconds: 75 },
      { stage: 'gold', behind: 0, lagSeconds: 0 },
    ],
  });
  await page.getByRole('heading', { name: 'A part has stopped' }).waitFor();
  assert.match(await page.title(), /^A part has stopped/);
  const findings = await page.locator('#findings li').allInnerTexts();
  assert.equal(findings.length, 2);
  assert.match(findings[0]!, /failed\s*partition 2\s*offsets 12 to 90/);
  const first = page.locator('#partitions tbody tr').first();
  assert.match(await first.innerText(), /^2\s+failed\s+offsets 12 to 90/);
  assert.match(await page.locator('#hops').innerText(), /12,345 records, 75 s behind/);
  await screenshot('stopped-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await screenshot('stopped-dark');
});

test('text from the pipeline is shown as text', async (t) => {
  const { page, control, errors } = await opened(t);
  const message = '<img src=x onerror="document.title=1"><b>bold</b>';
  control.show({ health: 'warning', findings: [{ severity: 'warning', subject: 'x', message }] });
  await page.getByText(message).waitFor();
  assert.equal(await page.locator('#findings img, #findings b').count(), 0);
  assert.deepEqual(errors, []);
});

test('an operator pauses and resumes by keyboard alone', async (t) => {
  const { page, control } = await opened(t);
  await page.keyboard.press('Tab');
  assert.equal(await page.locator(':focus').innerText(), 'Skip to the pipeline');
  await page.keyboard.press('Tab');
  assert.equal(await page.locator(':focus').innerText(), 'Pause');
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Pause the pipeline?' });
  await dialog.waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.deepEqual(control.asked, []);
  assert.equal(await page.locator(':focus').innerText(), 'Pause', 'focus comes back');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.equal(await page.locator(':focus').innerText(), 'Pause');
  await page.keyboard.press('Enter');
  await verdict(page).filter({ hasText: 'Paused' }).waitFor();
  assert.deepEqual(control.asked, [{ isPaused: true }]);
  const resume = page.getByRole('button', { name: 'Resume' });
  await resume.focus();
  await page.keyboard.press('Enter');
  await verdict(page).filter({ hasText: 'All is well' }).waitFor();
  assert.deepEqual(control.asked, [{ isPaused: true }, { isPaused: false }]);
});

test('a rebalance is previewed for the chosen strategy before it is done', async (t) => {
  const { page, control, screenshot } = await opened(t);
  await page.getByRole('button', { name: 'Rebalance…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Rebalance' });
  await dialog.getByText('1 unit would move.').waitFor();
  await dialog.getByRole('radio', { name: /^Even/ }).check();
  await eventually(() => control.asked.length === 2);
  await screenshot('rebalance');
  await dialog.getByRole('button', { name: 'Rebalance' }).click();
  await dialog.waitFor({ state: 'hidden' });
  await page.getByText('1 unit move').waitFor();
  assert.deepEqual(control.asked, [
    { rebalance: 'sticky', dryRun: true },
    { rebalance: 'even', dryRun: true },
    { rebalance: 'even', dryRun: false },
  ]);
  await page.locator('#activity li').first().waitFor();
  const activity = await page.locator('#activity li').allInnerTexts();
  assert.equal(activity.length, 1, 'a dry run is no change');
  assert.match(activity[0]!, /POST \/v1\/rebalance.*even[\s\S]*local: done/);
});

test('a worker is drained, a partition is placed, and a refusal stays in the dialog', async (t) => {
  const { page, control } = await opened(t);
  await page.getByRole('button', { name: 'Drain worker-1' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Drain', exact: true }).click();
  await eventually(() => control.asked.length === 1);
  control.show({});
  await page.getByRole('button', { name: 'End draining worker-1' }).waitFor();
  await page.getByRole('button', { name: 'Place partition 2' }).click();
  const dialog = page.getByRole('dialog', { name: 'Place partition 2' });
  const choices = await dialog.getByRole('combobox').locator('option').allInnerTexts();
  assert.deepEqual(choices, ['Let the supervisor choose', 'worker-2']);
  await dialog.getByRole('combobox').selectOption('worker-2');
  await dialog.getByRole('button', { name: 'Place' }).click();
  await dialog.waitFor({ state: 'hidden' });
  assert.deepEqual(control.asked, [
    { drain: 'worker-1', draining: true },
    { place: 2, worker: 'worker-2' },
  ]);
  await page.getByRole('button', { name: 'Pause' }).click();
  control.failure = new Error('broken');
  const pause = page.getByRole('dialog', { name: 'Pause the pipeline?' });
  await pause.getByRole('button', { name: 'Pause' }).click();
  await pause.getByRole('alert').filter({ hasText: 'The log of this server says more.' }).waitFor();
});

test('rows keep the focus while numbers change under it', async (t) => {
  const { page, control } = await opened(t);
  const button = page.getByRole('button', { name: 'Place partition 1' });
  await button.focus();
  const partitions = [0, 1, 2, 3].map((p) => aPartition(p, { nextOffset: 2_000, lag: 5 }));
  control.show({ partitions });
  await rowOf(page, 'partitions', '3').waitFor();
  assert.match(await rowOf(page, 'partitions', '1').innerText(), /2,000/);
  assert.ok(await button.evaluate((element) => element === document.activeElement));
});

test('a lost connection is said, and the page comes back by itself', async (t) => {
  const { page, options, control } = await opened(t);
  const { startHttpServer } = await import('../../src/supervisor/http/http-server.ts');
  // A port that no client of this machine is given while nobody listens on it.
  const http = { ...options.http, port: await freePort() };
  const server = await startHttpServer({ ...options, http });
  await page.goto(`${server.address}/`);
  await page.getByText('Live', { exact: true }).waitFor();
  await server.close();
  await page.getByText('Connection lost; trying again').waitFor();
  control.show({ pipeline: 'usage-again' });
  const again = await startHttpServer({ ...options, http });
  t.after(() => again.close());
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByText('usage-again').waitFor();
});

test('with tokens the page asks for one, keeps it in its tab, and shows a viewer no buttons', async (t) => {
  const { address } = await listeningServer(t, { tokens: TOKENS });
  const { page, screenshot } = await openPage(t);
  await page.goto(`${address}/`);
  const signIn = page.getByRole('dialog', { name: 'Sign in' });
  const enter = async (token: string): Promise<void> => {
    await signIn.getByLabel('Token').fill(token);
    await page.keyboard.press('Enter');
  };
  await signIn.waitFor();
  await page.getByText('Not signed in').waitFor();
  await screenshot('sign-in');
  await enter('not-a-token-anybody-has');
  await signIn.getByRole('alert').filter({ hasText: 'not known' }).waitFor();
  assert.equal(await page.locator('#partitions tbody tr').count(), 0);
  await enter(VIEWER_TOKEN);
  await page.getByText('All is well').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Pause' }).count(), 0);
  assert.equal(await page.getByRole('button', { name: /Drain|Place|Rebalance/ }).count(), 0);
  await page.reload();
  await page.getByText('All is well').waitFor();
  assert.equal(await page.evaluate(() => document.cookie), '');
  assert.ok(!page.url().includes('token'));
  await page.getByRole('button', { name: 'Sign out' }).click();
  await signIn.waitFor();
  await enter(OPERATOR_TOKEN);
  await page.getByRole('button', { name: 'Pause' }).waitFor();
  await page.getByRole('button', { name: 'Place partition 0' }).waitFor();
});

test('it fits a telephone, and 200 partitions', async (t) => {
  const { page, control, screenshot } = await opened(t, { viewport: { width: 375, height: 740 } });
  control.show({ partitions: Array.from({ length: 200 }, (_, p) => aPartition(p)) });
  await rowOf(page, 'partitions', '199').waitFor();
  const widths = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  assert.ok(widths[0]! <= widths[1]!, `${widths[0]} over ${widths[1]}`);
  await screenshot('telephone');
});

test('text stands out from its ground in light and dark', async (t) => {
  const { page, control } = await opened(t);
  control.show({
    health: 'failed',
    findings: (['failed', 'warning', 'notice'] as const).map((severity) => ({
      severity,
      subject: severity,
      message: 'message',
    })),
    partitions: [aPartition(0, { state: 'failed', reason: 'why' })],
  });
  await page.getByText('A part has stopped').waitFor();
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    const faint = await page.evaluate(contrastFailures);
    assert.deepEqual(faint, [], colorScheme);
  }
});

/** Runs in the page: texts whose contrast with what is behind them is below WCAG AA. */
function contrastFailures(): string[] {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;
  const channels = (color: string, over: number[]): number[] => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = `rgb(${over.join(' ')})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data.subarray(0, 3));
  };
  const groundOf = (element: Element): number[] => {
    const behind = element.parentElement ? groundOf(element.parentElement) : [255, 255, 255];
    return channels(getComputedStyle(element).backgroundColor, behind);
  };
  const luminance = (rgb: number[]): number => {
    const [r, g, b] = rgb.map((channel) => {
      const part = channel / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const failures: string[] = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent!.trim() !== '',
    );
    if (!own || !element.checkVisibility() || element.matches('.skip, caption')) continue;
    const ground = groundOf(element);
    const text = channels(getComputedStyle(element).color, ground);
    const [light, dark] = [luminance(text), luminance(ground)].sort((a, b) => b - a) as [
      number,
      number,
    ];
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) failures.push(`${element.textContent} ${contrast.toFixed(2)}`);
  }
  return failures;
}
