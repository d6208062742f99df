/** The command line's contract: exit codes, one JSON document, helpful sentences (design 6). */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { defineCommand, EXIT, integer, text, texts, toggle } from '../../../src/cli/command.ts';
import { commands } from '../../../src/cli/commands.ts';
import { groupDigits, textTable } from '../../../src/cli/text-table.ts';
import { type ErrorKind, PipelineError } from '../../../src/errors.ts';
import { cli } from '../../support/cli-host.ts';

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark-cli-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

const echo = defineCommand({
  name: 'group echo',
  summary: 'prints what it was given',
  arguments: '[word]',
  options: {
    untilDone: toggle('a switch'),
    workers: integer('how many', { min: 1, max: 9, fallback: 2 }),
    arrivalField: text('F', 'a field'),
    input: texts('FILE', 'files'),
  },
  example: 'tidemark group echo hello',
  async run(context, { options, args }) {
    const { untilDone, workers, arrivalField, input } = options;
    await context.terminal.result(
      { untilDone, workers, arrivalField, input, args, big: 2n ** 63n },
      () => 'text',
    );
    return EXIT.ok;
  },
});

test('options have their types, defaults and repetitions; bigints are strings in JSON', async () => {
  const run = (...argv: string[]) =>
    cli(['group', 'echo', ...argv], { cwd: '/', commands: [echo] });
  assert.deepEqual(JSON.parse((await run('--json')).stdout), {
    untilDone: false,
    workers: 2,
    input: [],
    args: [],
    big: '9223372036854775808',
  });
  const given = await run(
    ...'hello --until-done --workers 3 --arrival-field at --input a --input=- --json'.split(' '),
  );
  assert.deepEqual(JSON.parse(given.stdout), {
    untilDone: true,
    workers: 3,
    arrivalField: 'at',
    input: ['a', '-'],
    args: ['hello'],
    big: '9223372036854775808',
  });
  assert.equal((await run()).stdout, 'text\n');
});

const USAGE: Readonly<Record<string, readonly [argv: string, said: RegExp]>> = {
  'an unknown command': ['verfy', /Unknown command 'verfy' \(Did you mean verify\?\)/],
  'an unknown option': ['sql q --jsn', /Unknown option '--jsn'/],
  'a missing argument': ['sql', /Missing required argument 'query'\. See `tidemark sql --help`/],
  'one argument too many': ['sql a b', /Too many arguments/],
  'a number that is none': ['generate --events 1e3', /--events takes a whole number/],
  'a share out of range': ['generate --late 1.5', /--late takes a number from 0 to 1/],
  'a time that is none': ['generate --start yesterday', /--start takes a time/],
  'shares beyond all': ['generate --late 0.6 --poison 0.6', /exceed 1 together/],
  'a missing file': ['verify -c none.yaml', /no pipeline file none\.yaml/],
  'no pipeline file at all': ['status', /no pipeline file tidemark\.yaml.*tidemark init/],
};

for (const [what, [argv, said]] of Object.entries(USAGE)) {
  test(`${what} ends with 2 and one sentence`, async (t) => {
    const cwd = await folderOf(t);
    const plain = await cli(argv.split(' '), { cwd, adapters: {} });
    assert.equal(plain.exitCode, 2, plain.stderr);
    assert.equal(plain.stdout, '');
    assert.match(plain.stderr, said);
    const json = await cli([...argv.split(' '), '--json'], { cwd });
    assert.equal(json.exitCode, 2);
    const { error } = JSON.parse(json.stdout) as { error: { kind: string; message: string } };
    assert.equal(error.kind, 'invalid');
    assert.match(error.message, said);
  });
}

test('an option without its value ends with 2', async () => {
  const run = await cli(['generate', '--events'], { cwd: '/' });
  assert.equal(run.exitCode, 2);
  assert.match(
    run.stderr,
    /^Option '--events <N>' argument missing\. See `tidemark generate --help`\.\n$/,
  );
});

test('an invalid pipeline file ends with 2 and lists every problem, in JSON as objects', async (t) => {
  const cwd = await folderOf(t);
  await writeFile(join(cwd, 'pipeline.yaml'), 'name: X\nlate: {after: 3}\n');
  const run = await cli(['verify', '--json'], { cwd });
  assert.equal(run.exitCode, 2);
  const { error } = JSON.parse(run.stdout) as {
    error: { code: string; problems: { path: string; line: number }[] };
  };
  assert.equal(error.code, 'TM_CONFIG_INVALID');
  assert.deepEqual(
    error.problems.map(({ path, line }) => [path, line]),
    [
      ['name', 1],
      ['event', 1],
      ['gold', 1],
      ['late.after', 2],
    ],
  );
  assert.match(run.stderr, /^pipeline\.yaml has 4 problems:\n {2}line 1, name/);
});

const CODES: Readonly<Record<ErrorKind, number>> = {
  invalid: 2,
  unavailable: 3,
  corrupt: 1,
  fenced: 1,
  internal: 1,
};

for (const [kind, code] of Object.entries(CODES)) {
  test(`an error of kind ${kind} ends with ${code}`, async () => {
    const fails = defineCommand({
      name: 'fails',
      summary: 'fails',
      options: {},
      example: 'tidemark fails',
      run: () => Promise.reject(new PipelineError(kind as ErrorKind, 'TM_INTERNAL', 'It failed.')),
    });
    const run = await cli(['fails'], { cwd: '/', commands: [fails] });
    assert.equal(run.exitCode, code);
    assert.match(run.stderr, /^It failed\.\n/);
    assert.equal(/at .*\.ts/.test(run.stderr), kind === 'internal');
  });
}

test('every command has help with its example, and the help lists every command', async () => {
  const all = await cli(['--help'], { cwd: '/' });
  assert.equal(all.exitCode, 0);
  for (const command of commands) {
    const [word, within] = command.name.split(' ');
    assert.match(all.stdout, new RegExp(`\\n  ${word} .*${within ?? ''}`));
    const help = await cli([...command.name.split(' '), '--help'], { cwd: '/' });
    assert.equal(help.exitCode, 0);
    assert.ok(help.stdout.includes(`$ ${command.example}`));
    assert.ok(help.stdout.includes('--json') && help.stdout.includes('--config'));
    assert.ok(command.example.startsWith(`tidemark ${command.name}`));
  }
  assert.equal((await cli([], { cwd: '/' })).exitCode, 0);
});

test('a reader that goes away, as `| head` does, ends the command quietly', async () => {
  const gone = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error('gone'), { code: 'EPIPE' })),
  });
  const run = await cli(['generate', '--events', '20000'], { cwd: '/', stdout: gone });
  assert.deepEqual([run.exitCode, run.stderr], [0, '']);
});

test('init writes a pipeline that loads, and never over a file', async (t) => {
  const cwd = await folderOf(t);
  const run = await cli(['init', 'new', '--json'], { cwd });
  assert.equal(run.exitCode, 0, run.stderr);
  const written = ['.gitignore', 'pipeline.schema.json', 'tidemark.yaml'];
  assert.deepEqual((await readdir(join(cwd, 'new'))).sort(), written);
  assert.match(await readFile(join(cwd, 'new', 'tidemark.yaml'), 'utf8'), /\$schema=\.\/pipeline/);
  const again = await cli(['init', 'new'], { cwd });
  assert.equal(again.exitCode, 2);
  assert.match(again.stderr, /is there already/);
  const loads = await cli(['status', '--json'], { cwd: join(cwd, 'new') });
  assert.match(loads.stderr, /this test has no store/);
});

test('a table is aligned by its widest cells, numbers to the right, control characters shown', () => {
  const table = textTable(
    [{ title: 'name' }, { title: 'n', align: 'right' }],
    [
      ['a\u001b[31m', '1'],
      ['\u00e9\u{1f30a}', '1,234'],
      ['x'.repeat(100), ''],
    ],
  );
  const lines = table.split('\n');
  assert.equal(lines[2], `a\u00b7[31m${' '.repeat(80 - 6 + 2)}    1`);
  assert.equal(lines[3], `\u00e9\u{1f30a}${' '.repeat(80)}1,234`);
  assert.equal(lines[4], `${'x'.repeat(79)}\u2026`);
  assert.equal(groupDigits(1234567n), '1,234,567');
  assert.equal(groupDigits(-123), '-123');
});

test('the launcher runs on the Node of this process and passes arguments and exit code', async () => {
  const launcher = join(import.meta.dirname, '..', '..', '..', 'bin', 'tidemark.js');
  const run = promisify(execFile)(process.execPath, [launcher, 'no-such-command']);
  await assert.rejects(run, { code: 2 });
});
