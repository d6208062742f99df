/** What the contract cannot see of the file system adapter: W1 to W6, crashes and failing disks. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import fs, { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import { it, mock, type TestContext } from 'node:test';
import { type Ambient, systemAmbient } from '../../../src/ambient.ts';
import { silentLogger } from '../../../src/logger.ts';
import {
  type FsObjectStore,
  openFsObjectStore,
} from '../../../src/storage/object-store/fs-object-store.ts';

const body = Buffer.from('one commit\n');
const fault = (code: string): Error => Object.assign(new Error(code), { code });
const isTemporary = (path: unknown): boolean => basename(String(path)).startsWith('.tmp-');

async function openStore(
  t: TestContext,
  ambient: Ambient = systemAmbient,
): Promise<{ root: string; store: FsObjectStore }> {
  const root = await mkdtemp(join(tmpdir(), 'tidemark-fs-'));
  const store = await openFsObjectStore({ path: root, ambient, logger: silentLogger });
  t.after(async () => {
    await store.close();
    await rm(root, { recursive: true });
  });
  return { root, store };
}

async function keysOf(store: FsObjectStore, prefix = '', startAfter = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const info of store.list(prefix, { startAfter })) keys.push(info.key);
  return keys;
}

/** Replaces functions of node:fs/promises, as the adapter sees them, until the test ends. */
function patchFs<K extends 'open' | 'link' | 'lstat' | 'rename' | 'unlink'>(
  t: TestContext,
  name: K,
  make: (real: (typeof fs)[K]) => unknown,
): void {
  const real = fs[name];
  const patched = mock.method(fs, name, make(real) as never);
  syncBuiltinESMExports();
  t.after(() => {
    patched.mock.restore();
    syncBuiltinESMExports();
  });
}

/** Lets one method of the handles of the paths that match fail, or be told of. */
function patchHandles(
  t: TestContext,
  matches: (path: string) => boolean,
  method: 'write' | 'datasync' | 'sync',
  before: (path: string) => void,
): void {
  patchFs(t, 'open', (real) => async (...args: Parameters<typeof fs.open>) => {
    const handle = await real(...args);
    const path = String(args[0]);
    if (matches(path)) {
      const call = handle[method].bind(handle) as (...rest: unknown[]) => Promise<unknown>;
      handle[method] = (async (...rest: unknown[]) => {
        before(path);
        return call(...rest);
      }) as never;
    }
    return handle;
  });
}

it('W1 W3 bytes are durable before they have a name, and the name before the answer', async (t) => {
  const { root, store } = await openStore(t);
  const steps: string[] = [];
  const name = (path: unknown): string =>
    isTemporary(path) ? 'temporary' : relative(root, String(path)) || 'root';
  patchHandles(
    t,
    () => true,
    'sync',
    (path) => steps.push(`fsync ${name(path)}`),
  );
  patchHandles(t, isTemporary, 'datasync', (path) => steps.push(`fsync ${name(path)}`));
  patchHandles(t, isTemporary, 'write', (path) => steps.push(`write ${name(path)}`));
  patchFs(t, 'link', (real) => (from: string, to: string) => {
    steps.push(`link ${name(from)} ${name(to)}`);
    return real(from, to);
  });
  patchFs(t, 'rename', (real) => (from: string, to: string) => {
    steps.push(`rename ${name(from)} ${name(to)}`);
    return real(from, to);
  });
  await store.createIfAbsent('a/b/0.json', body);
  const written = ['write temporary', 'fsync temporary'];
  assert.deepEqual(steps.splice(0), [
    'fsync a',
    'fsync root',
    ...written,
    'link temporary a/b/0.json',
    'fsync a/b',
  ]);
  await store.put('a/b/data', body);
  assert.deepEqual(steps.splice(0), [...written, 'rename temporary a/b/data', 'fsync a/b']);
  assert.equal(await store.createIfAbsent('a/b/0.json', body), 'exists');
  assert.deepEqual(steps, ['fsync a/b']);
});

it('W3 a folder that vanished is made again', async (t) => {
  const { root, store } = await openStore(t);
  await store.put('a/b/1', body);
  await rm(join(root, 'a'), { recursive: true });
  await store.put('a/b/2', body);
  assert.deepEqual(await keysOf(store), ['a/b/2']);
});

it('a full disk is told as such, leaves nothing, and the write works once there is space', async (t) => {
  const { root, store } = await openStore(t);
  let full = true;
  patchHandles(t, isTemporary, 'write', () => {
    if (full) throw fault('ENOSPC');
  });
  const expected = { kind: 'unavailable', code: 'TM_DISK_FULL' };
  await assert.rejects(store.put('d/k', body), expected);
  await assert.rejects(store.createIfAbsent('d/k', body), expected);
  assert.deepEqual(await readdir(join(root, 'd')), []);
  full = false;
  assert.equal(await store.createIfAbsent('d/k', body), 'created');
});

it('W5 bytes whose fsync failed never get a name', async (t) => {
  const { root, store } = await openStore(t);
  patchHandles(t, isTemporary, 'datasync', () => {
    throw fault('EIO');
  });
  await assert.rejects(store.createIfAbsent('d/k', body), { kind: 'unavailable' });
  await assert.rejects(store.put('d/k', body), { kind: 'unavailable' });
  assert.deepEqual(await readdir(join(root, 'd')), []);
});

it('W3 a create whose folder cannot be fsynced is unknown, and exists is not told either', async (t) => {
  const { root, store } = await openStore(t);
  let broken = true;
  patchHandles(
    t,
    (path) => path === root,
    'sync',
    () => {
      if (broken) throw fault('EIO');
    },
  );
  assert.equal(await store.createIfAbsent('k', body), 'unknown');
  assert.equal(await store.createIfAbsent('k', body), 'unknown');
  await assert.rejects(store.put('p', body), { kind: 'unavailable' });
  broken = false;
  assert.equal(await store.createIfAbsent('k', body), 'exists');
});

it('W4 a link that is reported as failed is settled by the link count', async (t) => {
  const { store } = await openStore(t);
  let outcome: { readonly lands: boolean; readonly code: string };
  patchFs(t, 'link', (real) => async (from: string, to: string) => {
    if (outcome.lands) await real(from, to);
    throw fault(outcome.code);
  });
  outcome = { lands: true, code: 'EIO' };
  assert.equal(await store.createIfAbsent('1', body), 'created');
  outcome = { lands: true, code: 'EEXIST' };
  assert.equal(await store.createIfAbsent('2', body), 'created');
  outcome = { lands: false, code: 'ETIMEDOUT' };
  assert.equal(await store.createIfAbsent('3', body), 'unknown');
  outcome = { lands: false, code: 'EEXIST' };
  assert.equal(await store.createIfAbsent('4', body), 'exists');
  outcome = { lands: false, code: 'ENOENT' };
  await assert.rejects(store.createIfAbsent('5', body), { kind: 'unavailable' });
  outcome = { lands: false, code: 'EPERM' };
  await assert.rejects(store.createIfAbsent('6', body), { kind: 'invalid', message: /hard links/ });
  assert.deepEqual(await keysOf(store), ['1', '2']);
});

it('fsyncs of one folder that come while one runs share the next', async (t) => {
  const { root, store } = await openStore(t);
  await store.put('warm', body);
  let syncs = 0;
  patchHandles(
    t,
    (path) => path === root,
    'sync',
    () => syncs++,
  );
  await Promise.all(Array.from({ length: 32 }, (_, i) => store.put(`k${i}`, body)));
  assert.ok(syncs >= 1 && syncs < 32, `${syncs} fsyncs`);
});

it('a tail listing looks only at the files that it yields', async (t) => {
  const { root, store } = await openStore(t);
  await mkdir(join(root, 't/_delta_log'), { recursive: true });
  const key = (version: number): string => `t/_delta_log/${String(version).padStart(20, '0')}.json`;
  await Promise.all(Array.from({ length: 500 }, (_, i) => writeFile(join(root, key(i)), body)));
  let looked = 0;
  patchFs(t, 'lstat', (real) => (...args: Parameters<typeof fs.lstat>) => {
    looked++;
    return real(...args);
  });
  assert.deepEqual(await keysOf(store, 't/_delta_log/', key(496)), [key(497), key(498), key(499)]);
  assert.equal(looked, 3);
  for await (const first of store.list('t/_delta_log/')) {
    assert.equal(first.key, key(0));
    break;
  }
  assert.ok(looked < 100, `${looked} files looked at for the first one`);
});

it('W6 symbolic links, temporary files and names that are no keys are not objects', async (t) => {
  const { root, store } = await openStore(t);
  const outside = await mkdtemp(join(tmpdir(), 'tidemark-outside-'));
  t.after(() => rm(outside, { recursive: true }));
  await writeFile(join(outside, 'secret'), 'secret');
  await mkdir(join(root, 'd'));
  await symlink(join(outside, 'secret'), join(root, 'd/file-link'));
  await symlink(outside, join(root, 'd/folder-link'));
  await symlink(root, join(root, 'd/loop'));
  await writeFile(join(root, 'd/.tmp-left'), 'x');
  await writeFile(join(root, 'd/back\\slash'), 'x');
  await writeFile(Buffer.concat([Buffer.from(join(root, 'd/')), Buffer.from([0xff, 0xfe])]), 'x');
  await store.put('d/object', body);
  assert.deepEqual(await keysOf(store), ['d/object']);
  assert.equal(await store.head('d/file-link'), undefined);
  await assert.rejects(store.get('d/file-link'), { kind: 'invalid', code: 'TM_STORE_DENIED' });
});

it('a file where a folder belongs is refused with a reason', async (t) => {
  const { store } = await openStore(t);
  await store.put('a', body);
  await assert.rejects(store.put('a/b', body), { kind: 'invalid', code: 'TM_STORE_DENIED' });
  await assert.rejects(store.createIfAbsent('a/b', body), { kind: 'invalid' });
});

it('abandoned temporary files are removed when a store opens, young ones are left', async (t) => {
  const { root, store } = await openStore(t);
  await store.put('a/b/kept', body);
  await writeFile(join(root, 'a/b/.tmp-old'), 'half a comm');
  await writeFile(join(root, 'a/b/.tmp-young'), 'half a comm');
  const longAgo = Date.now() / 1000 - 7200;
  await utimes(join(root, 'a/b/.tmp-old'), longAgo, longAgo);
  await utimes(join(root, 'a/b/kept'), longAgo, longAgo);
  const options = { path: root, ambient: systemAmbient, logger: silentLogger };
  const reopened = await openFsObjectStore(options);
  t.after(() => reopened.close());
  const deadline = Date.now() + 5000;
  while ((await readdir(join(root, 'a/b'))).includes('.tmp-old')) {
    assert.ok(Date.now() < deadline, 'the old file is removed');
  }
  assert.deepEqual(await readdir(join(root, 'a/b')), ['.tmp-young', 'kept']);
});

it('W1 a process killed while it writes leaves no partial object', {
  timeout: 60_000,
}, async (t) => {
  const { root, store } = await openStore(t);
  for (let round = 0; round < 6; round++) {
    const child = startChild('put', root);
    for (;;) {
      const names = await readdir(root, { recursive: true });
      if (names.some(isTemporary) && (round % 2 === 0 || names.length > 6 + round)) break;
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (const key of await keysOf(store)) {
      const object = Buffer.from((await store.get(key))!);
      assert.equal(object.length, 16 << 20, key);
      assert.equal(Buffer.compare(object, Buffer.alloc(object.length, object[0])), 0, key);
    }
  }
  const left = await readdir(root, { recursive: true });
  assert.ok(left.some(isTemporary), 'a write was interrupted');
});

it('W2 of two processes racing for keys exactly one wins each', { timeout: 60_000 }, async (t) => {
  const { root, store } = await openStore(t);
  const children = [startChild('race', root, '50'), startChild('race', root, '50')];
  t.after(() => {
    for (const child of children) child.disconnect();
  });
  await Promise.all(children.map((child) => once(child, 'message')));
  const winners = new Set<number>();
  // A round is a race only if both processes ran; the scheduler may see to it that one was late.
  for (let round = 0; round < 3 || winners.size < 2; round++) {
    const results = children.map(async (child) => {
      child.send(round);
      const [wins] = (await once(child, 'message')) as [string[]];
      return wins.map((key) => ({ key, pid: child.pid! }));
    });
    const wins = (await Promise.all(results)).flat();
    assert.equal(new Set(wins.map(({ key }) => key)).size, 50, 'each key was won');
    assert.equal(wins.length, 50, 'no key was won twice');
    for (const { key, pid } of wins) {
      winners.add(pid);
      assert.equal(Buffer.from((await store.get(key))!).toString(), `${pid}`);
    }
  }
});

function startChild(...args: string[]): ChildProcess {
  return fork(join(import.meta.dirname, 'fs-writer.child.ts'), args);
}
