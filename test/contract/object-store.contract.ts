/**
 * The contract of the object store port. Each adapter runs it; a caller may rely on what is here and
 * on nothing else.
 */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { PipelineError } from '../../src/errors.ts';
import type { ObjectStore } from '../../src/storage/object-store/object-store.ts';

/** `open` gives another client of the same, at first empty, store each time. */
export interface ObjectStoreFixture {
  readonly open: () => Promise<ObjectStore>;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (body: Uint8Array | undefined): string | undefined =>
  body && new TextDecoder().decode(body);

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function keysOf(store: ObjectStore, prefix: string, startAfter?: string): Promise<string[]> {
  const options = startAfter === undefined ? {} : { startAfter };
  return (await collect(store.list(prefix, options))).map((info) => info.key);
}

/** Registers the suite. `fixture` makes a fresh store per test and cleans it up through the context. */
export function objectStoreContract(
  name: string,
  fixture: (t: TestContext) => Promise<ObjectStoreFixture>,
): void {
  const withStore =
    (body: (store: ObjectStore, more: ObjectStoreFixture, t: TestContext) => Promise<void>) =>
    async (t: TestContext): Promise<void> => {
      const opened: ObjectStore[] = [];
      const { open } = await fixture(t);
      const tracked = async (): Promise<ObjectStore> => {
        const store = await open();
        opened.push(store);
        return store;
      };
      try {
        await body(await tracked(), { open: tracked }, t);
      } finally {
        await Promise.all(opened.map((store) => store.close()));
      }
    };

  describe(`object store contract: ${name}`, () => {
    it(
      'what is put is read back byte for byte, also by another client',
      withStore(async (store, { open }) => {
        const body = Uint8Array.from({ length: 70_001 }, (_, i) => (i * 31) % 256);
        await store.put('a/b/data.parquet', body);
        assert.deepEqual(await store.get('a/b/data.parquet'), body);
        assert.deepEqual(await (await open()).get('a/b/data.parquet'), body);
      }),
    );

    it(
      'an empty object is an object',
      withStore(async (store) => {
        await store.put('empty', new Uint8Array());
        assert.equal((await store.get('empty'))?.length, 0);
        assert.equal((await store.head('empty'))?.sizeBytes, 0);
        assert.equal(await store.createIfAbsent('empty', bytes('x')), 'exists');
      }),
    );

    it(
      'an absent object is undefined, not an error, and its deletion is fine',
      withStore(async (store) => {
        assert.equal(await store.get('no/such'), undefined);
        assert.equal(await store.get('no/such', { range: { start: 0, end: 4 } }), undefined);
        assert.equal(await store.head('no/such'), undefined);
        await store.delete('no/such');
      }),
    );

    it(
      'a key below an object, and an object that is a prefix of keys, read as absent',
      withStore(async (store) => {
        await store.put('a/b', bytes('x'));
        assert.equal(await store.get('a'), undefined);
        assert.equal(await store.head('a'), undefined);
        assert.equal(await store.get('a/b/c'), undefined);
        assert.equal(await store.head('a/b/c'), undefined);
        await store.delete('a');
        await store.delete('a/b/c');
        assert.equal(text(await store.get('a/b')), 'x');
      }),
    );

    it(
      'a range is start inclusive, end exclusive, and clamped to the object',
      withStore(async (store) => {
        await store.put('k', bytes('0123456789'));
        assert.equal(text(await store.get('k', { range: { start: 2, end: 5 } })), '234');
        assert.equal(text(await store.get('k', { range: { start: 8, end: 99 } })), '89');
        assert.equal(text(await store.get('k', { range: { start: 10, end: 12 } })), '');
      }),
    );

    it(
      'the bytes read own their whole buffer, so that they may be transferred',
      withStore(async (store) => {
        await store.put('k', bytes('0123456789'));
        for (const range of [undefined, { start: 2, end: 5 }]) {
          const body = (await store.get('k', range ? { range } : {}))!;
          assert.equal(body.buffer.byteLength, body.byteLength);
          assert.equal(Object.getPrototypeOf(body), Uint8Array.prototype);
        }
      }),
    );

    it(
      'put replaces',
      withStore(async (store) => {
        await store.put('hint', bytes('a longer first value'));
        await store.put('hint', bytes('second'));
        assert.equal(text(await store.get('hint')), 'second');
        assert.deepEqual(await keysOf(store, ''), ['hint']);
      }),
    );

    it(
      'the caller may reuse a buffer as soon as the write is done',
      withStore(async (store) => {
        const body = bytes('first');
        await store.put('p', body);
        await store.createIfAbsent('c', body);
        body.fill(0);
        assert.equal(text(await store.get('p')), 'first');
        assert.equal(text(await store.get('c')), 'first');
      }),
    );

    it(
      'head tells size and time of the store',
      withStore(async (store) => {
        await store.put('k', bytes('12345'));
        const info = (await store.head('k'))!;
        assert.equal(info.key, 'k');
        assert.equal(info.sizeBytes, 5);
        assert.ok(Math.abs(info.modifiedMs - Date.now()) < 60_000);
      }),
    );

    it(
      'P3 createIfAbsent creates once and never touches what is there',
      withStore(async (store, { open }) => {
        const key = 't/_delta_log/00000000000000000000.json';
        assert.equal(await store.createIfAbsent(key, bytes('mine')), 'created');
        assert.equal(await store.createIfAbsent(key, bytes('other')), 'exists');
        assert.equal(await (await open()).createIfAbsent(key, bytes('third')), 'exists');
        assert.equal(text(await store.get(key)), 'mine');
      }),
    );

    it(
      'P3 of 32 racing creates through two clients one wins, and its bytes stay',
      withStore(async (store, { open }) => {
        const clients = [store, await open()];
        for (let round = 0; round < 5; round++) {
          const key = `race/${round}.json`;
          const outcomes = await Promise.all(
            Array.from({ length: 32 }, async (_, i) => {
              const client = clients[i % 2]!;
              // Lets a store answer 409 (try again) without failing the race.
              for (;;) {
                try {
                  return await client.createIfAbsent(key, bytes(`writer ${i}`));
                } catch (error) {
                  if (!(error instanceof PipelineError && error.kind === 'unavailable'))
                    throw error;
                }
              }
            }),
          );
          const winners = outcomes.flatMap((outcome, i) => (outcome === 'created' ? [i] : []));
          assert.equal(winners.length, 1, outcomes.join(' '));
          assert.equal(outcomes.filter((outcome) => outcome === 'exists').length, 31);
          assert.equal(text(await store.get(key)), `writer ${winners[0]}`);
        }
      }),
    );

    it(
      'a deleted object can be created again',
      withStore(async (store) => {
        assert.equal(await store.createIfAbsent('k', bytes('1')), 'created');
        await store.delete('k');
        assert.equal(await store.get('k'), undefined);
        assert.deepEqual(await keysOf(store, ''), []);
        assert.equal(await store.createIfAbsent('k', bytes('2')), 'created');
        assert.equal(text(await store.get('k')), '2');
      }),
    );

    it(
      'a write is listed, read and headed at once by another client',
      withStore(async (store, { open }) => {
        const reader = await open();
        await store.put('a/1', bytes('1'));
        assert.deepEqual(await keysOf(reader, 'a/'), ['a/1']);
        await store.createIfAbsent('a/2', bytes('22'));
        assert.deepEqual(await keysOf(reader, 'a/'), ['a/1', 'a/2']);
        assert.equal((await reader.head('a/2'))?.sizeBytes, 2);
        await store.delete('a/1');
        assert.deepEqual(await keysOf(reader, 'a/'), ['a/2']);
      }),
    );

    it(
      'a listing holds each key below the prefix once, with its size, ascending by UTF-8 bytes',
      withStore(async (store) => {
        const keys = [
          'b/10.json',
          'b/9.json',
          'b/a/deep/x',
          'b/a-sibling',
          'b/a.sibling',
          'b/a0',
          'b/Z',
          'b/\u{e000}',
          'b/\u{1f600}',
          'b/é',
          'c/other',
          'bb',
        ];
        for (const key of keys) await store.put(key, bytes(key));
        const expected = keys
          .filter((key) => key.startsWith('b/'))
          .toSorted((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
        const found = await collect(store.list('b/'));
        assert.deepEqual(
          found.map((info) => info.key),
          expected,
        );
        for (const info of found) assert.equal(info.sizeBytes, bytes(info.key).length);
      }),
    );

    it(
      'a prefix need not end at a slash, and may match nothing',
      withStore(async (store) => {
        for (const key of ['p/ab', 'p/abc/d', 'p/ac', 'p/abd', 'pa'])
          await store.put(key, bytes('x'));
        assert.deepEqual(await keysOf(store, 'p/ab'), ['p/ab', 'p/abc/d', 'p/abd']);
        assert.deepEqual(await keysOf(store, 'p/abc'), ['p/abc/d']);
        assert.deepEqual(await keysOf(store, 'p'), ['p/ab', 'p/abc/d', 'p/abd', 'p/ac', 'pa']);
        assert.deepEqual(await keysOf(store, 'p/ab/'), []);
        assert.deepEqual(await keysOf(store, 'q'), []);
        assert.deepEqual(await keysOf(store, 'q/r/s'), []);
      }),
    );

    it(
      'startAfter is exclusive, need not exist, and may lie inside, before or behind the prefix',
      withStore(async (store) => {
        for (const key of ['l/0', 'l/1/x', 'l/1/y', 'l/2', 'm']) await store.put(key, bytes('x'));
        const after = async (startAfter: string): Promise<string[]> =>
          keysOf(store, 'l/', startAfter);
        assert.deepEqual(await after('l/0'), ['l/1/x', 'l/1/y', 'l/2']);
        assert.deepEqual(await after('l/1'), ['l/1/x', 'l/1/y', 'l/2']);
        assert.deepEqual(await after('l/1/x'), ['l/1/y', 'l/2']);
        assert.deepEqual(await after('l/1/xx'), ['l/1/y', 'l/2']);
        assert.deepEqual(await after('l/10'), ['l/2']);
        assert.deepEqual(await after('l/2'), []);
        assert.deepEqual(await after('a'), ['l/0', 'l/1/x', 'l/1/y', 'l/2']);
        assert.deepEqual(await after('z'), []);
      }),
    );

    it(
      'a key may hold spaces, %, #, +, =, quotes and non-ASCII characters',
      withStore(async (store) => {
        const keys = [
          'k/a b',
          'k/100%',
          'k/%41',
          'k/#1',
          'k/a+b',
          'k/_d=2026-11-23/x',
          `k/"it's"`,
          'k/ünï',
          'k/?q&r',
          'k/~(x)!*',
        ];
        for (const key of keys) {
          assert.equal(await store.createIfAbsent(key, bytes(key)), 'created', key);
        }
        for (const key of keys) assert.equal(text(await store.get(key)), key);
        assert.deepEqual(new Set(await keysOf(store, 'k/')), new Set(keys));
      }),
    );

    it(
      'an illegal key is refused by every operation, before anything happens',
      withStore(async (store) => {
        const refused = { name: 'PipelineError', kind: 'invalid' };
        const illegal = [
          '',
          '/abs',
          'a//b',
          'a/',
          '..',
          'a/../b',
          './a',
          'a/.',
          'a\\b',
          'a\0b',
          'a/\ud800',
          'a/.tmp-x',
          'x'.repeat(256),
          'y/'.repeat(600),
        ];
        for (const key of illegal) {
          await assert.rejects(store.get(key), refused, key);
          await assert.rejects(store.head(key), refused, key);
          await assert.rejects(store.put(key, bytes('x')), refused, key);
          await assert.rejects(store.createIfAbsent(key, bytes('x')), refused, key);
          await assert.rejects(store.delete(key), refused, key);
        }
        for (const prefix of ['/', '../', 'a/../', 'a//', 'a\0']) {
          await assert.rejects(keysOf(store, prefix), refused, prefix);
        }
        assert.deepEqual(await keysOf(store, ''), []);
      }),
    );

    it(
      'concurrent puts of one key leave one of the bodies whole',
      withStore(async (store) => {
        const bodies = Array.from({ length: 8 }, (_, i) => new Uint8Array(50_000 + i).fill(i));
        await Promise.all(bodies.map((body) => store.put('hint', body)));
        const stored = (await store.get('hint'))!;
        assert.ok(bodies.some((body) => Buffer.compare(body, stored) === 0));
      }),
    );

    it(
      'a local path, where there is one, is a file with the bytes',
      withStore(async (store) => {
        await store.put('d/x.parquet', bytes('rows'));
        const path = store.localPath('d/x.parquet');
        if (path === undefined) return;
        const { readFile } = await import('node:fs/promises');
        assert.equal((await readFile(path)).toString(), 'rows');
      }),
    );
  });
}
