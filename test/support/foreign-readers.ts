/** Delta tables through delta-rs, DuckDB and Spark, by the scripts of test/interop. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setUp } from '../../tools/setup.ts';
import { projectDir } from '../../tools/tool-install.ts';
import type { JsonRow } from './pipeline-tables.ts';

/** A table to read. */
export interface ForeignTable {
  /** Where delta-rs reads it. */
  readonly uri: string;
  /** Storage options of delta-rs. */
  readonly options?: Readonly<Record<string, string>>;
  /** The same as a local folder, for Spark and for reading plain files. */
  readonly files: string;
  /** The newest when absent. */
  readonly version?: number;
}

/** What a reader answers to each query. */
export type Answers = Readonly<Record<string, readonly (readonly JsonRow[])[]>>;

/** What delta-rs says of a table. */
export interface Described {
  readonly version: number;
  readonly files: number;
  /** Files left for each date of the request. */
  readonly pruned: Readonly<Record<string, number>>;
  readonly minReader: number;
  readonly minWriter: number;
}

export interface ForeignRequest {
  readonly tables: Readonly<Record<string, ForeignTable>>;
  /** Table and query; the query calls its table `t` and writes instants as `TS'…Z'`. */
  readonly queries: readonly (readonly [table: string, sql: string])[];
  /** Event dates for which the files are counted that are left. */
  readonly dates?: readonly string[];
}

/** Asks delta-rs, Arrow's datasets and DuckDB; they share a process. */
export async function askArrowReaders(
  request: ForeignRequest,
): Promise<{ readonly answers: Answers; readonly tables: Readonly<Record<string, Described>> }> {
  return runScript('read_arrow.py', request, {});
}

/** Asks Spark. */
export async function askSpark(request: ForeignRequest): Promise<{ readonly answers: Answers }> {
  const jars = process.env['TIDEMARK_TEST_SPARK_JARS'] ?? (await setUp(['spark'])).spark;
  return runScript('read_spark.py', request, { TIDEMARK_TEST_SPARK_JARS: jars });
}

async function runScript<Result>(
  script: string,
  request: ForeignRequest,
  environment: Readonly<Record<string, string>>,
): Promise<Result> {
  const python = process.env['TIDEMARK_TEST_PYTHON'] ?? (await setUp(['python'])).python;
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-readers-'));
  // Not on stdout, where Java says things too.
  const answer = join(folder, 'answer.json');
  const child = spawn(python, [join(projectDir, 'test', 'interop', script), answer], {
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', ...environment },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-16_384);
  });
  child.stdin.end(JSON.stringify(request));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  try {
    if (code !== 0) throw new Error(`${script} ended with ${code}:\n${stderr}`);
    return JSON.parse(readFileSync(answer, 'utf8')) as Result;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
