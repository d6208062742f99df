import assert from 'node:assert/strict';
import { test } from 'node:test';
import { histogramSamples, metricsText } from '../../../../src/supervisor/http/metrics-text.ts';
import {
  pipelineFamilies,
  processFamilies,
} from '../../../../src/supervisor/http/pipeline-metrics.ts';
import { aPartition, aStatus, FakeControl } from '../../../support/fake-control.ts';

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = `${'[a-zA-Z_][a-zA-Z0-9_]*'}="(?:[^"\\\\\\n]|\\\\["\\\\n])*"`;
const SAMPLE = new RegExp(`^(${NAME})(\\{${LABEL}(?:,${LABEL})*\\})? (-?[0-9.e+-]+|[+-]Inf|NaN)$`);

test('the text is what Prometheus parses: help, type, samples, escapes', () => {
  const text = metricsText([
    {
      name: 'a_total',
      type: 'counter',
      help: 'One\nline, a \\ slash.',
      samples: [{ labels: { path: 'say "hi"\\\n' }, value: 1e21 }],
    },
    { name: 'left_out', type: 'gauge', help: 'Empty.', samples: [] },
  ]);
  assert.equal(
    text,
    '# HELP a_total One\\nline, a \\\\ slash.\n# TYPE a_total counter\n' +
      'a_total{path="say \\"hi\\"\\\\\\n"} 1e+21\n',
  );
});

test('a histogram has its buckets, the infinite one, sum and count', () => {
  const histogram = { buckets: [{ seconds: 0.1, count: 3 }], count: 4, sumSeconds: 1.5 };
  const family = {
    name: 'd_seconds',
    type: 'histogram' as const,
    help: 'H.',
    samples: histogramSamples({ stage: 'gold' }, histogram),
  };
  assert.deepEqual(metricsText([family]).split('\n').slice(2, -1), [
    'd_seconds_bucket{stage="gold",le="0.1"} 3',
    'd_seconds_bucket{stage="gold",le="+Inf"} 4',
    'd_seconds_sum{stage="gold"} 1.5',
    'd_seconds_count{stage="gold"} 4',
  ]);
});

test('every metric of a pipeline is well formed, has a unit, and is exposed once', () => {
  const status = aStatus({
    partitions: [
      aPartition(0, { lag: 5, lagSeconds: 2.5 }),
      aPartition(1, {
        state: 'failed',
        reason: 'TM',
        endOffset: null,
        lag: null,
        lagSeconds: null,
        watermark: null,
      }),
      aPartition(2, { nextOffset: '9223372036854775000' }),
    ],
    writers: [{ unit: 'silver:0', worker: null, state: 'failed', reason: 'TM' }],
  });
  const request = { labels: { route: '/', method: 'GET', status: '200' }, count: 1, seconds: 0.1 };
  const families = [
    ...pipelineFamilies(status, new FakeControl().commitDurations),
    ...processFamilies({ memoryBytes: 1, cpuSeconds: 2, startedAtSeconds: 3 }, [request]),
  ];
  const names = families.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  for (const { name, type } of families) {
    if (type === 'counter') assert.match(name, /_total$/);
    if (/_(ms|kib|mb|percent)\b/.test(name)) assert.fail(`${name} is in no base unit`);
  }
  const lines = metricsText(families).trimEnd().split('\n');
  const samples = lines.filter((line) => !line.startsWith('#'));
  for (const line of samples) assert.match(line, SAMPLE);
  assert.equal(new Set(samples.map((line) => line.split(' ')[0])).size, samples.length);
  const text = samples.join('\n');
  assert.match(text, /^tidemark_partition_lag_records\{topic="usage",partition="0"\} 5$/m);
  assert.ok(!/lag_records\{topic="usage",partition="1"\}/.test(text), 'unknown is not zero');
  assert.match(text, /partition_state\{topic="usage",partition="1",state="failed"\} 1$/m);
  assert.match(text, /writer_state\{unit="silver:0",state="failed"\} 1$/m);
  assert.match(text, /^tidemark_partition_watermark_seconds\{[^}]+\} 1795407600$/m);
  assert.match(text, /^tidemark_hop_lag_versions\{stage="gold"\} 0$/m);
});
