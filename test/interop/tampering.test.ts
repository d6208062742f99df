/** What others do to the tables, by mistake or on purpose, is found by `verify` without reading a row. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { setUp } from '../../tools/setup.ts';
import { projectDir } from '../../tools/tool-install.ts';
import { PipelineFixture, type VerifyResult } from '../support/pipeline-fixture.ts';
import { USAGE_TABLES, usageDefinition } from '../support/pipeline-usage.ts';

const EVENTS = 4_000;
const SCRIPT = join(projectDir, 'test', 'interop', 'tamper.py');

async function tamper(table: string, ...action: readonly string[]): Promise<void> {
  const python = process.env['TIDEMARK_TEST_PYTHON'] ?? (await setUp(['python'])).python;
  await promisify(execFile)(python, [SCRIPT, table, ...action]);
}

function newestDataFile(table: string): string {
  const files = readdirSync(table, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.parquet') && !name.startsWith('_'))
    .map((name) => join(table, name));
  return files.toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0]!;
}

interface Tampering {
  /** Table that `verify` must name, and what it must find there. */
  readonly table: keyof typeof USAGE_TABLES;
  readonly kind: string;
  readonly act: (table: string) => void | Promise<void>;
}

const TAMPERINGS: Readonly<Record<string, Tampering>> = {
  'a data file is deleted': {
    table: 'silver',
    kind: 'missing-file',
    act: (table) => rmSync(newestDataFile(table)),
  },
  'a data file is cut': {
    table: 'bronze',
    kind: 'changed-file',
    act: (table) => truncateSync(newestDataFile(table), 100),
  },
  'a commit is deleted': {
    table: 'bronze',
    kind: 'unreadable',
    act: (table) => rmSync(join(table, '_delta_log', `${'1'.padStart(20, '0')}.json`)),
  },
  'a foreign writer doubles a row of silver': {
    table: 'silver',
    kind: 'rows-mismatch',
    act: (table) => tamper(table, 'append'),
  },
  'a foreign writer deletes rows of silver': {
    table: 'silver',
    kind: 'rows-mismatch',
    act: (table) => tamper(table, 'delete', "status_code = 200 AND method = 'GET'"),
  },
  'a foreign writer adds a row to bronze': {
    table: 'bronze',
    kind: 'rows-mismatch',
    act: (table) => tamper(table, 'append'),
  },
  'a foreign writer adds a row to gold': {
    table: 'hourly',
    kind: 'rows-mismatch',
    act: (table) => tamper(table, 'append'),
  },
};

test('tampered tables are found by `verify`', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: usageDefinition({ maxRows: 1_000 }),
    on: 'folder',
  });
  const events = join(pipeline.folder, 'events.ndjson');
  await pipeline.json(['generate', '--events', String(EVENTS), '--out', events]);
  await pipeline.runUntilCaughtUp(['--input', events]);
  await pipeline.verify();
  const lake = await pipeline.lakeFolder();
  const whole = join(pipeline.folder, 'whole');
  cpSync(lake, whole, { recursive: true, preserveTimestamps: true });

  for (const [what, { table, kind, act }] of Object.entries(TAMPERINGS)) {
    await t.test(what, async () => {
      rmSync(lake, { recursive: true });
      cpSync(whole, lake, { recursive: true, preserveTimestamps: true });
      const root = USAGE_TABLES[table];
      await act(join(lake, root));
      const { code, stdout, stderr } = await pipeline.command(['verify']);
      assert.equal(code, 1, stderr);
      const { ok, violations } = JSON.parse(stdout) as VerifyResult;
      assert.equal(ok, false);
      const found = violations as readonly { readonly kind: string; readonly table: string }[];
      assert.ok(
        found.some((one) => one.table === root.replace('/', '.') && one.kind === kind),
        JSON.stringify(found, null, 1),
      );
    });
  }
});
