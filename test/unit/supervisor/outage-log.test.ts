import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PipelineError } from '../../../src/errors.ts';
import { createLogger } from '../../../src/logger.ts';
import { OutageLog } from '../../../src/supervisor/outage-log.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('an outage is told when it begins, twice a minute while it lasts, and when it is over', () => {
  const clock = new ManualClock();
  const lines: string[] = [];
  const write = (line: string): void => {
    lines.push((JSON.parse(line) as { message: string }).message);
  };
  const outage = new OutageLog('away', {
    clock,
    logger: createLogger({ clock, level: 'info', write }),
  });
  outage.worked();
  for (let second = 0; second < 60; second += 1) {
    outage.failed(new PipelineError('unavailable', 'TM_STATE_UNAVAILABLE', 'not now'));
    clock.advance(1_000);
  }
  outage.worked();
  outage.worked();
  assert.deepEqual(lines, ['away', 'away', 'away: over']);
});
