/** `generate`: where lines go, and that nothing half-written is left. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PipelineError } from '../../../src/errors.ts';
import type { NewRecord } from '../../../src/storage/source/record-sink.ts';
import { cli } from '../../support/cli-host.ts';

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-generate-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

const linesOf = (text: string): string[] => text.trimEnd().split('\n');

test('without a target, lines go to stdout and nothing else does', async () => {
  const { exitCode, stdout, stderr } = await cli(['generate', '--events', '50'], { cwd: '/' });
  assert.deepEqual([exitCode, stderr, linesOf(stdout).length], [0, '', 50]);
});

test('a file holds what stdout would show; truth and arrivals describe it', async (t) => {
  const cwd = await folderOf(t);
  const shown = await cli(['generate', '--events', '12000'], { cwd });
  const run = await cli(
    'generate --events 12000 --out sub/e.ndjson --truth t.json --arrivals a.i64 --json'.split(' '),
    { cwd },
  );
  assert.equal(run.exitCode, 0, run.stderr);
  const file = await readFile(join(cwd, 'sub', 'e.ndjson'), 'utf8');
  assert.equal(file, shown.stdout);
  const truth = JSON.parse(await readFile(join(cwd, 't.json'), 'utf8')) as { bytes: number };
  assert.equal(truth.bytes, Buffer.byteLength(file));
  const arrivals = await readFile(join(cwd, 'a.i64'));
  assert.equal(arrivals.length, 12_000 * 8);
  assert.equal(arrivals.readBigInt64LE(0), BigInt(Date.parse('2026-11-22T00:00:00Z')));
  assert.deepEqual((await readdir(join(cwd, 'sub'))).sort(), ['e.ndjson']);
});

test('-c appends to the source of the pipeline, with key and arrival time', async (t) => {
  const cwd = await folderOf(t);
  await cli(['init', '.'], { cwd });
  const records: NewRecord[] = [];
  let closed = 0;
  const run = await cli('generate -c tidemark.yaml --events 6000 --json'.split(' '), {
    cwd,
    adapters: {
      openSink: async () => ({
        description: 'memory',
        append: async (more) => void records.push(...more),
        close: async () => void closed++,
      }),
    },
  });
  assert.equal(run.exitCode, 0, run.stderr);
  assert.equal(records.length, 6000);
  assert.equal(closed, 1);
  assert.equal((JSON.parse(run.stdout) as { out: string }).out, 'memory');
  const { key, value, timestampMs } = records[0]!;
  assert.equal((JSON.parse(String(value)) as { customer_id: string }).customer_id, key);
  assert.equal(timestampMs, Date.parse('2026-11-22T00:00:00Z'));
});

test('a sink that fails ends the command with its exit code, without a second try', async (t) => {
  const cwd = await folderOf(t);
  await cli(['init', '.'], { cwd });
  let calls = 0;
  const run = await cli(['generate', '-c', 'tidemark.yaml'], {
    cwd,
    adapters: {
      openSink: async () => ({
        description: 'memory',
        append: async () => {
          calls++;
          throw new PipelineError('unavailable', 'TM_SOURCE_UNAVAILABLE', 'Gone.');
        },
        close: async () => {},
      }),
    },
  });
  assert.deepEqual([run.exitCode, calls], [3, 1]);
});

test('a pipeline of other events is refused, with the way out', async (t) => {
  const cwd = await folderOf(t);
  await cli(['init', '.'], { cwd });
  const file = join(cwd, 'tidemark.yaml');
  const text = await readFile(file, 'utf8');
  await writeFile(file, text.replaceAll('event_id', 'reading_id'));
  const run = await cli(['generate', '-c', 'tidemark.yaml'], { cwd });
  assert.equal(run.exitCode, 2);
  assert.match(run.stderr, /--out/);
});

test('a stopped run leaves no file that looks whole', async (t) => {
  const cwd = await folderOf(t);
  const run = await cli(['generate', '--out', 'e.ndjson'], { cwd, signal: AbortSignal.abort() });
  assert.notEqual(run.exitCode, 0);
  assert.deepEqual(await readdir(cwd), []);
});

test('a folder that cannot be written is bad usage', async () => {
  const run = await cli(['generate', '--out', '/dev/null/x/e.ndjson'], { cwd: '/' });
  assert.equal(run.exitCode, 2);
  assert.match(run.stderr, /Cannot write/);
});

test('a steady rate keeps its pace and arrives now', async (t) => {
  const cwd = await folderOf(t);
  const before = Date.now();
  const run = await cli(
    'generate --events 40 --rate 200 --duplicates 0 --arrivals a.i64 --out e.ndjson'.split(' '),
    { cwd },
  );
  const elapsedMs = Date.now() - before;
  assert.equal(run.exitCode, 0, run.stderr);
  assert.ok(elapsedMs >= 190, `${elapsedMs} ms for 200 ms of events`);
  const arrivals = await readFile(join(cwd, 'a.i64'));
  const [first, last] = [arrivals.readBigInt64LE(0), arrivals.readBigInt64LE(39 * 8)];
  assert.ok(Math.abs(Number(first) - before) < 1_000);
  assert.equal(last - first, 195n);
});
