import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { projectDir } from '../../../tools/tool-install.ts';

const MAIN = join(projectDir, 'src', 'main.ts');

for (const [what, code] of [
  ['an uncaught exception', "throw new Error('boom')"],
  ['an unhandled rejection', "void Promise.reject(new Error('boom'))"],
] as const) {
  test(`${what} ends the process with 1 and a line in the log`, () => {
    // Something that would go on for minutes.
    const work = ['generate', '--events', '1000000000', '--rate', '10', '--out', '/dev/null'];
    // As soon as main.ts has its handlers, however long loading it takes.
    const late = `data:text/javascript,const look = setInterval(() => {
      if (process.listenerCount('uncaughtException') === 0) return;
      clearInterval(look);
      ${code};
    }, 50)`.replaceAll(/\s+/g, ' ');
    const { status, stderr } = spawnSync(process.execPath, ['--import', late, MAIN, ...work], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    assert.equal(status, 1, stderr);
    const last = JSON.parse(stderr.trimEnd().split('\n').at(-1)!) as Record<string, unknown>;
    assert.equal(last['message'], 'nobody handled an error: the process ends');
    assert.deepEqual([last['level'], last['error']], ['error', 'boom']);
  });
}
