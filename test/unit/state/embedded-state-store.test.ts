/** The embedded state: what a restart, a second process and a bad disk make of it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemAmbient } from '../../../src/ambient.ts';
import { PipelineError } from '../../../src/errors.ts';
import { silentLogger } from '../../../src/logger.ts';
import {
  openEmbeddedStateReader,
  openEmbeddedStateStore,
} from '../../../src/storage/state/embedded-state-store.ts';
import type { StateStore } from '../../../src/storage/state/state-store.ts';
import { eventually } from '../../support/eventually.ts';

const LONG_MS = 60_000;

async function newFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'tidemark state ü-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

const open = (path: string): Promise<StateStore> =>
  openEmbeddedStateStore({ path, ambient: systemAmbient, logger: silentLogger });

const isTaken = (thrown: unknown): boolean =>
  thrown instanceof PipelineError &&
  thrown.kind === 'invalid' &&
  thrown.code === 'TM_STATE_UNSAFE' &&
  /kind: redis/.test(thrown.message);

test('hashes outlive the process that closes in order; leases do not (ES3)', async (t) => {
  const path = join(await newFolder(t), 'deep', 'state');
  const first = await open(path);
  await first.setHash('partition:0', { nextOffset: '7' });
  await first.setHash('gone', { a: '1' });
  await first.delete('gone');
  const lease = await first.acquireLease('leader', 'a', LONG_MS);
  await first.close();

  const second = await open(path);
  t.after(() => second.close());
  assert.deepEqual(await second.keys(''), ['partition:0']);
  assert.deepEqual(await second.getHash('partition:0'), { nextOffset: '7' });
  const next = await second.acquireLease('leader', 'b', LONG_MS);
  assert.ok(lease && next && next.epoch > lease.epoch, 'MS1: the epoch grows over the restart');
});

test('changes reach the file without a close, in few writes, and leave nothing else (ES1)', async (t) => {
  const path = await newFolder(t);
  const store = await open(path);
  t.after(() => store.close());
  for (let i = 0; i < 500; i += 1) await store.setHash('a', { i: `${i}` });
  const reader = openEmbeddedStateReader({ path, logger: silentLogger });
  await eventually(async () => assert.equal((await reader.getHash('a'))['i'], '499'));
  assert.deepEqual((await readdir(path)).toSorted(), ['owner.json', 'state.json']);
});

test('a second store on the folder is told off, in this process and in another (ES2)', async (t) => {
  const path = await newFolder(t);
  const store = await open(path);
  await assert.rejects(open(path), isTaken);
  await store.close();

  const script = `
    import { takeFolder } from ${JSON.stringify(join(import.meta.dirname, '../../../src/storage/state/folder-owner.ts'))};
    takeFolder(${JSON.stringify(path)});
    console.log('taken');
    setInterval(() => {}, 1000);`;
  const other = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => other.kill('SIGKILL'));
  await new Promise((resolve) => other.stdout.once('data', resolve));
  await assert.rejects(open(path), isTaken);

  // FO2: what a killed process leaves does not hold the folder.
  const gone = new Promise((resolve) => other.once('exit', resolve));
  other.kill('SIGKILL');
  await gone;
  await (await open(path)).close();
});

test('a mark with our own pid from an earlier life of the container is taken over (FO2)', async (t) => {
  const path = await newFolder(t);
  const mark = { host: hostname(), pid: process.pid, startedAt: '1' };
  await writeFile(join(path, 'owner.json'), JSON.stringify(mark));
  await (await open(path)).close();
  await writeFile(join(path, 'owner.json'), '{"pid":');
  await (await open(path)).close();
  assert.deepEqual(await readdir(path), []);
});

test('a damaged file counts as none and is replaced (ES1)', async (t) => {
  for (const text of ['', '{"a":{"x":', '[]', 'null', '{"a":1}', '{"a":{"x":1}}', '{"a":["x"]}']) {
    const path = await newFolder(t);
    await writeFile(join(path, 'state.json'), text);
    const store = await open(path);
    assert.deepEqual(await store.keys(''), [], text);
    await store.setHash('b', { y: '1' });
    await store.close();
    assert.equal(await readFile(join(path, 'state.json'), 'utf8'), '{"b":{"y":"1"}}');
  }
});

test('a disk that cannot be written costs the copy only, and is tried again (ES4)', async (t) => {
  const path = await newFolder(t);
  const warnings: string[] = [];
  const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
  const store = await openEmbeddedStateStore({ path, ambient: systemAmbient, logger });
  t.after(() => store.close());
  // A folder in the file's place: the rename fails, whoever we are.
  await mkdir(join(path, 'state.json', 'x'), { recursive: true });
  await store.setHash('a', { x: '1' });
  await eventually(() => assert.equal(warnings.length, 1));
  // It may be tried again at this moment, in a file of its own.
  await eventually(async () => {
    assert.deepEqual((await readdir(path)).toSorted(), ['owner.json', 'state.json']);
  });
  assert.equal((await store.getHash('a'))['x'], '1');
  await rm(join(path, 'state.json'), { recursive: true });
  await store.setHash('a', { x: '2' });
  await store.close();
  assert.equal(await readFile(join(path, 'state.json'), 'utf8'), '{"a":{"x":"2"}}');
});

test('a reader sees the file as it is, and refuses every write', async (t) => {
  const path = await newFolder(t);
  const reader = openEmbeddedStateReader({ path, logger: silentLogger });
  assert.deepEqual(await reader.keys(''), []);
  await writeFile(join(path, 'state.json'), '{"p:1":{"a":"1"},"q":{}}');
  assert.deepEqual(await reader.keys('p:'), ['p:1']);
  assert.deepEqual(await reader.getHash('p:1'), { a: '1' });
  assert.deepEqual(await reader.getHash('toString'), {});
  await assert.rejects(reader.setHash('p:1', { a: '2' }), PipelineError);
  await assert.rejects(reader.delete('p:1'), PipelineError);
  await assert.rejects(reader.acquireLease('a', 'b', 1), PipelineError);
  assert.equal(await readFile(join(path, 'state.json'), 'utf8'), '{"p:1":{"a":"1"},"q":{}}');
});
