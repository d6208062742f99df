/** What the owner of a compute thread learns of its death. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ThreadHost } from '../../../src/ambient.ts';
import { ComputeThread } from '../../../src/actors/runtime/compute-thread.ts';

type Api = { readonly work: (call: undefined) => number };

/** A thread that answers nothing and dies when told to. */
function mortalThread(): { readonly thread: ComputeThread<Api>; readonly die: () => void } {
  let die = (): void => {};
  const host: ThreadHost = {
    start: (_module, _data, _onMessage, onEnd) => {
      die = () => onEnd(new Error('killed'));
      return { post: () => {}, terminate: () => Promise.resolve() };
    },
  };
  const thread = new ComputeThread<Api>(new URL('file:///none'), undefined, host);
  return { thread, die: () => die() };
}

test('T2 open calls and an owner that only watches learn of the death', async () => {
  const { thread, die } = mortalThread();
  const outcomes = Promise.allSettled([
    thread.call('work', undefined),
    thread.watch(new AbortController().signal),
  ]);
  die();
  for (const outcome of await outcomes) {
    assert.equal(outcome.status, 'rejected');
    assert.equal((outcome.reason as { code: string }).code, 'TM_INTERNAL');
  }
});

test('T2 a watch that begins after the death ends at once', async () => {
  const { thread, die } = mortalThread();
  die();
  await assert.rejects(thread.watch(new AbortController().signal), /crashed/);
});

test('a watch ends quietly with its signal', async () => {
  const { thread } = mortalThread();
  const stop = new AbortController();
  const watching = thread.watch(stop.signal);
  stop.abort();
  await watching;
});
