/** What asks a process to end in an orderly way, and what ends it at once. */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { shutdownSignal } from '../../../src/cli/shutdown-signal.ts';
import { ManualClock } from '../../support/manual-clock.ts';

class FakeProcess extends EventEmitter {
  send: (() => boolean) | undefined;
  connected = false;
  isChannelRef = true;
  readonly channel = { unref: () => void (this.isChannelRef = false) };
}

function watch(process: FakeProcess) {
  const clock = new ManualClock();
  const exits: number[] = [];
  const signal = shutdownSignal(process as unknown as NodeJS.Process, clock, (code) => {
    exits.push(code);
  });
  return { clock, exits, signal };
}

test('the first signal asks, its echo does nothing, a later one ends with 128 + its number', () => {
  const process = new FakeProcess();
  const { clock, exits, signal } = watch(process);
  assert.equal(signal.aborted, false);
  process.emit('SIGTERM');
  assert.equal(signal.aborted, true);
  process.emit('SIGINT');
  assert.deepEqual(exits, []);
  clock.advance(2_000);
  process.emit('SIGINT');
  assert.deepEqual(exits, [130]);
});

test('PE1 a process that was started with a channel ends with it', () => {
  const process = Object.assign(new FakeProcess(), { send: () => true, connected: true });
  const { signal } = watch(process);
  assert.equal(process.isChannelRef, false, 'the channel alone would keep it alive');
  assert.equal(signal.aborted, false);
  process.emit('disconnect');
  assert.equal(signal.aborted, true);
});

test('PE1 a parent that died meanwhile is noticed; no parent is none', () => {
  assert.equal(watch(Object.assign(new FakeProcess(), { send: () => true })).signal.aborted, true);
  assert.equal(watch(new FakeProcess()).signal.aborted, false);
});
