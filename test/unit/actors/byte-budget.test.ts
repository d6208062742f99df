import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ByteBudget } from '../../../src/actors/byte-budget.ts';
import { BatchCache } from '../../../src/actors/batch-cache.ts';
import { primitive, struct } from '../../../src/pipeline/types.ts';

const never = new AbortController().signal;

test('BB1 a request waits until enough was released, one larger than the bound goes alone', async () => {
  const budget = new ByteBudget(100);
  const first = (await budget.acquire(80, never))!;
  let granted = false;
  const second = budget.acquire(1_000, never).then((grant) => {
    granted = true;
    return grant!;
  });
  first.resize(40);
  await Promise.resolve();
  assert.equal(granted, false);
  first.release();
  (await second).release();
  assert.equal(budget.grantedBytes, 0);
});

test('BB2 a small request does not overtake a large one', async () => {
  const budget = new ByteBudget(100);
  const first = (await budget.acquire(60, never))!;
  const order: string[] = [];
  const large = budget.acquire(90, never).then((grant) => {
    order.push('large');
    grant!.release();
  });
  const small = budget.acquire(10, never).then(() => order.push('small'));
  first.release();
  await Promise.all([large, small]);
  assert.deepEqual(order, ['large', 'small']);
});

test('an aborted request gets nothing and lets the next one in', async () => {
  const budget = new ByteBudget(100);
  await budget.acquire(90, never);
  const abort = new AbortController();
  const gone = budget.acquire(50, abort.signal);
  const next = budget.acquire(10, never);
  abort.abort();
  assert.equal(await gone, undefined);
  assert.ok(await next);
});

test('BC1 BC2 the cache keeps the newest batches within its bound and hands each out once', () => {
  const batch = (bytes: number) => ({
    schema: struct([]),
    length: 1,
    columns: [{ type: primitive('binary'), length: 1, nullCount: 0, data: new Uint8Array(bytes) }],
  });
  const cache = new BatchCache(100);
  cache.put('a', batch(60));
  cache.put('b', batch(60));
  cache.put('c', batch(200));
  assert.equal(cache.take('a'), undefined);
  assert.equal(cache.take('c'), undefined);
  assert.ok(cache.take('b'));
  assert.equal(cache.take('b'), undefined);
  assert.equal(cache.bytes, 0);
});
