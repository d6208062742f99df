import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { type Clock, systemAmbient } from '../../../src/ambient.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import { openEmbeddedEventSource } from '../../../src/storage/source/embedded-event-source.ts';
import { EmbeddedLog } from '../../../src/storage/source/embedded-log.ts';
import { LineSplitter } from '../../../src/storage/source/line-splitter.ts';
import { type IngestOptions, ingestNdjson } from '../../../src/storage/source/ndjson-ingest.ts';
import type { EmbeddedSourceConfig } from '../../../src/storage/source/source-context.ts';
import { eventually } from '../../support/eventually.ts';
import { readToEnd, type Row } from '../../support/source-records.ts';

const NOW = 1_790_000_000_000;
const clock = Object.create(systemAmbient.clock, { nowMs: { value: () => NOW } }) as Clock;
const context = { logger: silentLogger, ambient: { ...systemAmbient, clock } };

interface World {
  readonly config: EmbeddedSourceConfig;
  readonly file: string;
  readonly ingest: (options?: Partial<IngestOptions>) => ReturnType<typeof ingestNdjson>;
  readonly rows: () => Promise<Row[]>;
}

async function world(t: TestContext, lines: string, partitions = 1): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-ingest-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'events.ndjson');
  await writeFile(file, lines);
  const config = {
    kind: 'embedded',
    path: join(folder, 'log'),
    topic: 'events',
    partitions,
    key: 'k',
    maxRecordBytes: 1 << 16,
  } as const;
  return {
    config,
    file,
    async ingest(options = {}) {
      const log = options.log ?? (await EmbeddedLog.open(config, context));
      try {
        const { maxRecordBytes } = config;
        return await ingestNdjson(
          { log, input: file, keyField: 'k', arrivalField: undefined, maxRecordBytes, ...options },
          context,
        );
      } finally {
        await log.close();
      }
    },
    async rows() {
      const source = await openEmbeddedEventSource(config, context);
      const rows: Row[] = [];
      for (let one = 0; one < partitions; one++) rows.push(...(await readToEnd(source, one)).rows);
      await source.close();
      return rows;
    },
  };
}

const textOf = (rows: readonly Row[]): string[] => rows.map(({ value }) => String(value));

test('a line is a value byte for byte: empty ones, carriage returns, no line feed at the end', async (t) => {
  const { ingest, rows } = await world(t, '{"k":"a"}\r\n\n  {"k":"b"}\nnot json\n{"k":1}');
  const done = await ingest();
  assert.equal(done.lines, 5);
  assert.deepEqual(textOf(await rows()), ['{"k":"a"}\r', '', '  {"k":"b"}', 'not json', '{"k":1}']);
});

test('the key is the text of the field, any scalar as written, else none', async (t) => {
  const lines = [
    ['{"k":"plain"}', 'plain'],
    ['{"x":{"k":"nested"},"k":"own"}', 'own'],
    ['{"k":"\\u00e9\\n\\"\\ud83d\\ude00"}', 'é\n"😀'],
    ['{"\\u006b":"escaped name"}', 'escaped name'],
    ['{"k":-1.50}', '-1.50'],
    ['{"k":true}', 'true'],
    ['{"k":""}', ''],
    ['{"k":null}', null],
    ['{"k":["a"]}', null],
    ['{"k":{"a":1}}', null],
    ['{"other":1}', null],
    ['["k"]', null],
    ['{"k":"broken', null],
    ['', null],
  ] as const;
  const { ingest, rows } = await world(t, `${lines.map(([line]) => line).join('\n')}\n`);
  await ingest();
  const found = await rows();
  assert.deepEqual(
    found.map(({ key }) => key),
    lines.map(([, key]) => key),
  );
});

test('the timestamp is now, or the arrival field as RFC 3339 or epoch milliseconds', async (t) => {
  const lines = [
    ['{"at":"2026-03-29T01:30:00.123Z"}', 1774747800123],
    ['{"at":"2026-03-29T03:30:00.5+02:00"}', 1774747800500],
    ['{"at":1774747800123}', 1774747800123],
    ['{"at":-5}', -5],
    ['{"at":"yesterday"}', NOW],
    ['{}', NOW],
    ['nothing', NOW],
  ] as const;
  const { ingest, rows } = await world(t, lines.map(([line]) => line).join('\n'));
  const done = await ingest({ arrivalField: 'at' });
  assert.deepEqual(
    (await rows()).map(({ timestampMs }) => timestampMs),
    lines.map(([, ms]) => ms),
  );
  assert.equal(done.undatedLines, 3);
});

test('a line above the limit keeps one byte more than allowed, which tells that it is too large', async (t) => {
  const { ingest, rows, config } = await world(t, `${'x'.repeat(200_000)}\nsmall\n`);
  await ingest();
  assert.deepEqual(
    (await rows()).map(({ value }) => value!.length),
    [config.maxRecordBytes + 1, 5],
  );
});

test('a file that was interrupted is continued without loss or double (N1)', async (t) => {
  const lines = Array.from(
    { length: 30_000 },
    (_, i) => `{"k":"c${i % 7}","i":${i},"pad":"${'x'.repeat(900)}"}`,
  );
  const { ingest, rows } = await world(t, `${lines.join('\n')}\n`, 3);
  const interrupted = new AbortController();
  const first = await ingest({ signal: interrupted.signal, onProgress: () => interrupted.abort() });
  assert.ok(first.lines > 0 && first.lines < lines.length, `${first.lines} lines`);
  const second = await ingest();
  assert.ok(second.resumedLines > 0 && second.resumedLines <= first.lines);
  assert.deepEqual(textOf(await rows()).toSorted(), lines.toSorted());
});

test('a crash between two partitions of a round is continued too (N1)', async (t) => {
  const lines = Array.from({ length: 500 }, (_, i) => `{"k":"c${i % 50}","i":${i}}`);
  const { ingest, rows, config } = await world(t, lines.join('\n'), 4);
  const log = await EmbeddedLog.open(config, context);
  const append = log.append.bind(log);
  // Only some of the partitions get their batches, as if the power had gone.
  log.append = async (batches) => {
    await append(batches.slice(0, 2));
    throw new Error('the power went');
  };
  await assert.rejects(ingest({ log }), /the power went/);
  const { resumedLines } = await ingest();
  assert.deepEqual(textOf(await rows()).toSorted(), lines.toSorted());
  assert.ok(resumedLines > 0);
});

test('a file that was appended completely is appended again when given again', async (t) => {
  const { ingest, rows } = await world(t, 'a\nb\n');
  for (let run = 0; run < 3; run++) assert.equal((await ingest()).resumedLines, 0);
  assert.deepEqual(textOf(await rows()), ['a', 'b', 'a', 'b', 'a', 'b']);
});

test('another file under the same name starts from its beginning', async (t) => {
  const { ingest, rows, file } = await world(t, 'a\nb\n');
  const stopped = AbortSignal.abort();
  await ingest({ signal: stopped });
  await ingest();
  await writeFile(file, 'c\nd\n');
  await ingest();
  assert.deepEqual(textOf(await rows()), ['a', 'b', 'c', 'd']);
});

test('what a stream brings is readable before the stream ends (N3)', async (t) => {
  const { ingest, rows } = await world(t, '');
  const stream = new PassThrough();
  const done = ingest({ input: stream });
  stream.write('{"k":"a"}\n{"k":');
  await eventually(async () => (await rows()).length === 1);
  stream.end('"b"}');
  assert.deepEqual((await done).lines, 2);
  assert.deepEqual(textOf(await rows()), ['{"k":"a"}', '{"k":"b"}']);
});

test('an input that is not there is refused by name', async (t) => {
  const { ingest } = await world(t, '');
  await assert.rejects(ingest({ input: '/nowhere/x.ndjson' }), (error: PipelineError) => {
    assert.deepEqual([error.kind, error.code], ['invalid', 'TM_USAGE']);
    return error.message.includes('/nowhere/x.ndjson');
  });
});

test('lines come out the same however the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.string({ maxLength: 12 }).map((line) => line.replaceAll('\n', ' ')),
        { maxLength: 12 },
      ),
      fc.array(fc.nat({ max: 20 }), { maxLength: 30 }),
      fc.boolean(),
      (lines, cuts, endsWithLineFeed) => {
        const bytes = Buffer.from(lines.join('\n') + (endsWithLineFeed ? '\n' : ''));
        const found: string[] = [];
        const splitter = new LineSplitter(
          (line, start, end) => found.push(line.toString('utf8', start, end)),
          1000,
        );
        let at = 0;
        for (const cut of cuts) {
          splitter.push(bytes.subarray(at, at + cut));
          at = Math.min(at + cut, bytes.length);
        }
        splitter.push(bytes.subarray(at));
        splitter.finish();
        const expected = bytes.toString().split('\n');
        if (expected.at(-1) === '') expected.pop();
        assert.deepEqual(found, expected);
      },
    ),
  );
});
