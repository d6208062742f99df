/** Orders to end or stop the process at a crash point (CP1, CS1). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemAmbient } from '../../src/ambient.ts';
import { crashPoint, listenToCrashPoints, stageOf } from '../../src/crash-points.ts';
import { armCrashPoints } from '../../src/crash-striker.ts';

const SOURCES = join(import.meta.dirname, '..', '..', 'src');

/** A process that passes `w.decode.done` three times and says how often it lived to tell. */
function passThrice(order: string) {
  const script = `
    import { armCrashPoints } from '${SOURCES}/crash-striker.ts';
    import { crashPoint } from '${SOURCES}/crash-points.ts';
    import { systemAmbient } from '${SOURCES}/ambient.ts';
    import { writeSync } from 'node:fs';
    armCrashPoints(${JSON.stringify(order)}, systemAmbient.clock);
    for (const pass of [1, 2, 3]) {
      crashPoint('w.decode.done');
      writeSync(1, String(pass));
    }
    await new Promise((done) => setImmediate(done));
    writeSync(1, 'end');`;
  const { signal, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  return { signal, stdout };
}

test('a place is passed for nothing unless somebody listens (CP1)', (t) => {
  t.after(() => listenToCrashPoints(undefined));
  const passed: string[] = [];
  crashPoint('w.decode.done');
  listenToCrashPoints((point) => passed.push(point));
  crashPoint('g.commit.put.acked');
  listenToCrashPoints(undefined);
  crashPoint('w.decode.done');
  assert.deepEqual(passed, ['g.commit.put.acked']);
});

test('an order ends the process at the n-th pass, before or after what follows', () => {
  assert.deepEqual(passThrice('w.decode.done:2'), { signal: 'SIGKILL', stdout: '1' });
  assert.deepEqual(passThrice('w.decode.done:2:after'), { signal: 'SIGKILL', stdout: '123' });
  assert.deepEqual(passThrice('w.decode.done:4'), { signal: null, stdout: '123end' });
  assert.deepEqual(passThrice('w.fetch.received'), { signal: null, stdout: '123end' });
});

test('an order in a file is carried out by one process only (CS1)', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-crash-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'order');
  assert.deepEqual(passThrice(`@${file}`), { signal: null, stdout: '123end' });
  writeFileSync(file, 'w.decode.done:3');
  assert.deepEqual(passThrice(`@${file}`), { signal: 'SIGKILL', stdout: '12' });
  assert.ok(!existsSync(file));
  assert.deepEqual(passThrice(`@${file}`), { signal: null, stdout: '123end' });
});

test('an order that names no place is refused', () => {
  for (const order of ['', 'w.decode', 'w.decode.done:x', 'w.decode.done:1:maybe']) {
    assert.throws(() => armCrashPoints(order, systemAmbient.clock), { code: 'TM_USAGE' }, order);
  }
});

test('commits are of the stage whose table they go to; dead letters are silver’s', () => {
  assert.equal(stageOf('bronze/usage'), 'w');
  assert.equal(stageOf('bronze/usage_dlq'), 's');
  assert.equal(stageOf('silver/usage'), 's');
  assert.equal(stageOf('gold/usage_hourly'), 'g');
});
