/** Delta tables of many kinds by other writers, from test/interop/make_golden.py. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { setUp } from '../../tools/setup.ts';
import { projectDir } from '../../tools/tool-install.ts';
import type { JsonRow } from './pipeline-tables.ts';

/** Tables in a folder, and what those who made them read in them. */
export interface GoldenTables {
  readonly folder: string;
  /** By table, then by version; `newest` stands for no version. In the order of `id`. */
  readonly read: Readonly<Record<string, Readonly<Record<string, readonly JsonRow[]>>>>;
}

/** Makes the tables, with Spark and delta-rs in one process; takes about a minute. */
export async function makeGoldenTables(t: TestContext): Promise<GoldenTables> {
  const python = process.env['TIDEMARK_TEST_PYTHON'] ?? (await setUp(['python'])).python;
  const jars = process.env['TIDEMARK_TEST_SPARK_JARS'] ?? (await setUp(['spark'])).spark;
  const base = mkdtempSync(join(tmpdir(), 'tidemark-golden-'));
  t.after(() => rmSync(base, { recursive: true }));
  // As if they were the bronze tables of a lake.
  const [folder, answer] = [join(base, 'lake', 'bronze'), join(base, 'answer.json')];
  const script = join(projectDir, 'test', 'interop', 'make_golden.py');
  await promisify(execFile)(python, [script, folder, answer], {
    // Spark keeps a warehouse in its working folder.
    cwd: base,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', TIDEMARK_TEST_SPARK_JARS: jars },
    maxBuffer: 64 << 20,
  });
  const { read } = JSON.parse(readFileSync(answer, 'utf8')) as Pick<GoldenTables, 'read'>;
  return { folder, read };
}
