/**
 * The test command: static checks, then the test files, group by group, with the servers they need.
 * The last line is `N passed, N failed` over everything; exit code 1 if anything failed or nothing ran.
 *
 * `node tools/test.ts [checks unit fuzz simulation contract integration interop browser | FILE...]`;
 * without arguments all of it. Only the servers and tools of the chosen tests are set up.
 */
import { existsSync, globSync } from 'node:fs';
import { join, matchesGlob, relative, resolve } from 'node:path';
import { type SetupPart, setUp } from './setup.ts';
import { startKafka, startRedis, startS3, type TestServer } from './servers.ts';
import { addCounts, runTestFiles, type TestCounts } from './test-files.ts';
import { projectDir, runCommand } from './tool-install.ts';

interface TestGroup {
  readonly name: string;
  readonly globs: readonly string[];
  readonly needs: readonly SetupPart[];
  readonly concurrency: number;
  readonly fileTimeoutMs: number;
}

const SERVERS: readonly SetupPart[] = ['kafka', 'redis', 's3'];

/** In the order in which they run: what is quick and needs nothing comes first. */
const GROUPS: readonly TestGroup[] = [
  {
    name: 'unit',
    globs: ['test/unit/**/*.test.ts', 'test/*.test.ts'],
    needs: [],
    concurrency: 2,
    fileTimeoutMs: 300_000,
  },
  {
    name: 'fuzz',
    globs: ['test/fuzz/**/*.test.ts'],
    needs: [],
    concurrency: 2,
    fileTimeoutMs: 300_000,
  },
  {
    name: 'simulation',
    globs: ['test/simulation/**/*.test.ts'],
    needs: [],
    concurrency: 2,
    fileTimeoutMs: 1_800_000,
  },
  {
    name: 'contract',
    globs: ['test/contract/**/*.test.ts'],
    needs: SERVERS,
    concurrency: 2,
    fileTimeoutMs: 300_000,
  },
  {
    name: 'integration',
    globs: ['test/integration/**/*.test.ts'],
    needs: [...SERVERS, 'helm', 'deployCheck'],
    concurrency: 1,
    fileTimeoutMs: 900_000,
  },
  {
    name: 'interop',
    globs: ['test/interop/**/*.test.ts'],
    needs: [...SERVERS, 'python', 'spark'],
    concurrency: 1,
    fileTimeoutMs: 900_000,
  },
  {
    name: 'browser',
    globs: ['test/browser/**/*.test.ts'],
    needs: ['chromium'],
    concurrency: 1,
    fileTimeoutMs: 300_000,
  },
];

const CHECKS: readonly { readonly name: string; readonly command: readonly string[] }[] = [
  { name: 'types', command: ['tsc', '--noEmit'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'format', command: ['biome', 'format', '.'] },
];

interface ChosenGroup extends TestGroup {
  readonly files: readonly string[];
}

/** Sorts arguments into groups with files. @throws Error on an argument that is neither */
function choose(args: readonly string[]): { checks: boolean; groups: readonly ChosenGroup[] } {
  const groupNames = new Set([...GROUPS.map((group) => group.name), 'checks']);
  const files = args.filter((arg) => !groupNames.has(arg)).map((arg) => resolve(arg));
  for (const file of files) {
    const path = relative(projectDir, file);
    if (!existsSync(file) || !GROUPS.some((group) => isOf(group, path))) {
      throw new Error(`${path} is neither a test file nor one of: ${[...groupNames].join(', ')}`);
    }
  }
  const groups = GROUPS.map((group) => {
    const isWhole = args.length === 0 || args.includes(group.name);
    const chosen = isWhole
      ? globSync(group.globs, { cwd: projectDir }).map((path) => join(projectDir, path))
      : files.filter((file) => isOf(group, relative(projectDir, file)));
    return { ...group, files: chosen.toSorted() };
  });
  return {
    checks: args.length === 0 || args.includes('checks'),
    groups: groups.filter((group) => group.files.length > 0),
  };
}

function isOf(group: TestGroup, path: string): boolean {
  return group.globs.some((glob) => matchesGlob(path, glob));
}

async function runCheck(check: (typeof CHECKS)[number]): Promise<TestCounts> {
  const [tool = '', ...args] = check.command;
  try {
    await runCommand(join(projectDir, 'node_modules', '.bin', tool), args);
    console.log(`ok    ${check.name}`);
    return { passed: 1, failed: 0, skipped: 0 };
  } catch (error) {
    console.log(`FAIL  ${check.name}\n${(error as Error).message}`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

/** Starts the servers among `parts` and puts what tests need into the environment. */
async function prepare(
  parts: readonly SetupPart[],
  ready: Promise<Partial<Record<SetupPart, string>>>,
): Promise<readonly TestServer[]> {
  const paths = await ready;
  const starts: Partial<Record<SetupPart, () => Promise<TestServer>>> = {
    kafka: () => startKafka({ heap: '1g' }),
    redis: startRedis,
    s3: startS3,
  };
  const servers = await Promise.all(parts.flatMap((part) => starts[part]?.() ?? []));
  for (const server of servers) Object.assign(process.env, server.env);
  const named = {
    TIDEMARK_TEST_PYTHON: paths.python,
    TIDEMARK_TEST_SPARK_JARS: paths.spark,
    TIDEMARK_TEST_CHROMIUM: paths.chromium,
  };
  for (const [name, path] of Object.entries(named)) {
    if (path !== undefined) process.env[name] = path;
  }
  return servers;
}

async function main(args: readonly string[]): Promise<TestCounts> {
  const { checks, groups } = choose(args);
  const parts = [...new Set(groups.flatMap((group) => group.needs))];
  // Downloads go on while checks and unit tests use the processor.
  const ready = setUp(parts);
  ready.catch(() => undefined);

  let counts: TestCounts = { passed: 0, failed: 0, skipped: 0 };
  for (const check of checks ? CHECKS : []) counts = addCounts(counts, await runCheck(check));

  let servers: readonly TestServer[] | undefined;
  for (const group of groups) {
    console.log(`\n${group.name}: ${group.files.length} files`);
    if (group.needs.length > 0 && servers === undefined) {
      try {
        servers = await prepare(parts, ready);
      } catch (error) {
        console.log(`FAIL  set-up; tests that need it do not run\n${(error as Error).message}`);
        counts = addCounts(counts, { passed: 0, failed: 1, skipped: 0 });
        break;
      }
    }
    counts = addCounts(counts, await runTestFiles(group));
  }
  await Promise.all((servers ?? []).map((server) => server.stop()));
  return counts;
}

try {
  const { passed, failed, skipped } = await main(process.argv.slice(2));
  if (skipped > 0) console.log(`\n${skipped} skipped`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
  console.log(`\n${passed} passed, ${failed} failed`);
} catch (error) {
  console.error((error as Error).message);
  console.log('\n0 passed, 1 failed');
  process.exitCode = 2;
}
