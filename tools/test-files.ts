/**
 * Runs test files with node:test, each in a process of its own, a few side by side, and counts.
 *
 * T1 A file that does not end in time is killed and counts as failed: a hung test or an open handle
 *    must not hold up the run, nor pass unseen.
 * T2 A file in which no test ran counts as failed.
 */
import { relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';
import { projectDir } from './tool-install.ts';

/** Sums of a run; a failed check or a file that broke down counts as one failed test. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface TestFilesOptions {
  readonly files: readonly string[];
  /** Files that run at the same time. */
  readonly concurrency: number;
  /** For one file; one test has as long. */
  readonly fileTimeoutMs: number;
}

interface FileResult extends TestCounts {
  readonly file: string;
  readonly failures: readonly string[];
  readonly output: string;
  readonly durationMs: number;
}

/** Runs the files, prints a line for each and the details of failures, and returns the sums. */
export async function runTestFiles(options: TestFilesOptions): Promise<TestCounts> {
  const waiting = [...options.files];
  let sum: TestCounts = { passed: 0, failed: 0, skipped: 0 };
  const lane = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const result = await runFile(file, options.fileTimeoutMs);
      report(result);
      sum = addCounts(sum, result);
    }
  };
  await Promise.all(Array.from({ length: options.concurrency }, lane));
  return sum;
}

/** Adds two sums. */
export function addCounts(a: TestCounts, b: TestCounts): TestCounts {
  return {
    passed: a.passed + b.passed,
    failed: a.failed + b.failed,
    skipped: a.skipped + b.skipped,
  };
}

async function runFile(file: string, timeoutMs: number): Promise<FileResult> {
  const started = performance.now();
  const failures: string[] = [];
  let passed = 0;
  let skipped = 0;
  let output = '';
  // T1: `timeout` ends a test that hangs, the signal kills a process that lives on after its tests.
  const deadline = AbortSignal.timeout(timeoutMs + 5_000);
  const events = run({ files: [file], timeout: timeoutMs, signal: deadline });
  for await (const event of events) {
    if (event.type === 'test:stdout' || event.type === 'test:stderr') {
      output += event.data.message;
    } else if (event.type === 'test:pass') {
      const { name, skip, todo, details } = event.data;
      // A suite is no test; a file in which no test ran is reported as a test of the file's name.
      if (details.type === 'suite' || name === file) continue;
      if (skip !== undefined || todo !== undefined) skipped += 1;
      else passed += 1;
    } else if (event.type === 'test:fail') {
      const { name, line, details } = event.data;
      const error = details.error as Error & { failureType?: string };
      if (error.failureType === 'subtestsFailed') continue;
      if (name !== file) {
        failures.push(`${name} (line ${line})\n${inspect(error.cause ?? error)}`);
      } else if (deadline.aborted) {
        failures.push(`killed after ${timeoutMs / 1000} s: a hung test or a handle left open`);
      } else if (failures.length === 0) {
        failures.push('the process broke down, see its output');
      }
    }
  }
  if (passed + skipped + failures.length === 0) failures.push('no test ran'); // T2
  const durationMs = performance.now() - started;
  return { file, passed, skipped, failed: failures.length, failures, output, durationMs };
}

function report(result: FileResult): void {
  const name = relative(projectDir, result.file);
  const seconds = (result.durationMs / 1000).toFixed(1);
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
  if (result.failed === 0) {
    console.log(`ok    ${name} (${result.passed} passed${skipped}, ${seconds} s)`);
    return;
  }
  console.log(
    `FAIL  ${name} (${result.passed} passed, ${result.failed} failed${skipped}, ${seconds} s)`,
  );
  for (const failure of result.failures) console.log(indent(failure));
  const tail = result.output.trimEnd().split('\n').slice(-60).join('\n');
  if (tail.length > 0) console.log(indent(`--- end of its output ---\n${tail}`));
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '      ');
}
