/** The generator's promises (invariants G1 to G3) and its truth. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type GeneratorOptions, UsageEventGenerator } from '../../src/pipeline/generator.ts';
import { instantText, parseInstantMs } from '../../src/pipeline/generator/instant-text.ts';
import { DistinctIntegers } from '../../src/pipeline/generator/usage-truth.ts';

const START_MS = Date.parse('2026-11-22T00:00:00Z');

const DEFAULTS: GeneratorOptions = {
  events: 20_000,
  seed: 7,
  startMs: START_MS,
  spanMs: 86_400_000,
  duplicates: 0.02,
  late: 0.01,
  poison: 0.001,
};

function generate(changes: Partial<GeneratorOptions> = {}, linesMax = 1000) {
  const generator = new UsageEventGenerator({ ...DEFAULTS, ...changes });
  const lines: { value: string; key: string; arrivalMs: number }[] = [];
  for (let chunk = generator.next(linesMax); chunk; chunk = generator.next(linesMax)) {
    assert.ok(chunk.values.length <= linesMax);
    chunk.values.forEach((value, i) => {
      lines.push({ value, key: chunk.keys[i]!, arrivalMs: chunk.arrivalsMs[i]! });
    });
  }
  return { lines, truth: generator.truth() };
}

interface UsageEvent {
  readonly event_id: string;
  readonly customer_id: string;
  readonly endpoint: string;
  readonly request_bytes: number;
  readonly response_bytes: number;
  readonly latency_ms: number;
  readonly event_time: string;
}

function parse(value: string): UsageEvent | undefined {
  try {
    return JSON.parse(value) as UsageEvent;
  } catch {
    return undefined;
  }
}

test('the same options give the same lines however they are cut, another seed others (G1)', () => {
  const whole = generate({}, 1_000_000);
  assert.deepEqual(generate({}, 7), whole);
  assert.notDeepEqual(generate({ seed: 8 }).lines[0], whole.lines[0]);
  assert.notDeepEqual(generate({ seed: 7 + 2 ** 40 }).lines[0], whole.lines[0]);
});

test('the truth is what an independent count of the lines finds', () => {
  for (const changes of [{}, { late: 0.3, poison: 0.2, duplicates: 0.25 }, { duplicates: 0 }]) {
    const { lines, truth } = generate({ ...changes, events: 5_000 });
    const firsts = new Map<string, { event: UsageEvent; arrivalMs: number }>();
    let invalid = 0;
    let duplicates = 0;
    for (const { value, arrivalMs } of lines) {
      const event = parse(value);
      if (!event) invalid++;
      else if (firsts.has(event.event_id)) duplicates++;
      else firsts.set(event.event_id, { event, arrivalMs });
    }
    const unique = [...firsts.values()];
    const groups = (widthMs: number) =>
      new Set(
        unique.map(({ event: e }) =>
          [Math.floor(Date.parse(e.event_time) / widthMs), e.customer_id, e.endpoint].join(),
        ),
      ).size;
    const sum = (pick: (event: UsageEvent) => number) =>
      unique.reduce((total, { event }) => total + pick(event), 0);
    assert.deepEqual(truth, {
      lines: 5_000,
      seed: 7,
      unique_valid: unique.length,
      duplicates,
      late: unique.filter((u) => u.arrivalMs - Date.parse(u.event.event_time) >= 7_200_000).length,
      invalid,
      bytes: lines.reduce((total, { value }) => total + Buffer.byteLength(value) + 1, 0),
      gold_hourly_rows: groups(3_600_000),
      gold_5min_rows: groups(300_000),
      gold_daily_rows: groups(86_400_000),
      sum_request_bytes: sum((e) => e.request_bytes),
      sum_response_bytes: sum((e) => e.response_bytes),
      sum_latency_ms: (sum((e) => Math.round(e.latency_ms * 100)) / 100).toFixed(2),
    });
    assert.equal(lines.length, 5_000);
  }
});

test('arrivals ascend within the span, and a copy follows its original within ten minutes (G2)', () => {
  const { lines } = generate({ duplicates: 0.3, spanMs: 3_600_000 });
  const originals = new Map<string, number>();
  let before = START_MS;
  for (const { value, arrivalMs } of lines) {
    assert.ok(arrivalMs >= before && arrivalMs < START_MS + 3_600_000);
    before = arrivalMs;
    const original = originals.get(value);
    if (original === undefined) originals.set(value, arrivalMs);
    else assert.ok(arrivalMs - original <= 600_000);
  }
  assert.equal(lines.length - originals.size, 6_000);
});

test('shares come out as asked, and the key is the customer', () => {
  const { lines, truth } = generate({ events: 100_000 });
  assert.equal(truth.duplicates, 2_000);
  assert.ok(Math.abs(truth.late / 98_000 - 0.01) < 0.001, `late ${truth.late}`);
  assert.ok(Math.abs(truth.invalid / 98_000 - 0.001) < 0.0004, `invalid ${truth.invalid}`);
  const mean = truth.sum_response_bytes / truth.unique_valid;
  assert.ok(Math.abs(mean / Math.exp(8.2 + 1.3 ** 2 / 2) - 1) < 0.03, `mean ${mean}`);
  for (const { value, key } of lines) {
    const event = parse(value);
    if (event) assert.equal(key, event.customer_id);
    else assert.ok(key === 'unknown' || value.includes(`"customer_id":"${key}"`));
  }
});

test('the most frequent customer has the share that Zipf gives it', () => {
  const { lines } = generate({ events: 100_000, duplicates: 0, poison: 0 });
  const first = lines.filter(({ key }) => key === 'cust_00000').length / lines.length;
  let total = 0;
  for (let rank = 1; rank <= 10_000; rank++) total += 1 / rank ** 1.1;
  assert.ok(Math.abs(first * total - 1) < 0.05, `share ${first}, expected ${1 / total}`);
});

test('only poison, no events, and a field for the arrival work', () => {
  assert.equal(generate({ poison: 1, late: 0, events: 100 }).truth.invalid, 100);
  assert.deepEqual(generate({ events: 0 }).lines, []);
  const { lines } = generate({ events: 10, poison: 0, arrivalField: 'seen' });
  for (const { value, arrivalMs } of lines) {
    const { seen } = JSON.parse(value) as { seen: string };
    assert.equal(Date.parse(seen), arrivalMs);
  }
});

test('instants are written and read as Date does', () => {
  fc.assert(
    fc.property(fc.integer({ min: -60_000_000_000_000, max: 250_000_000_000_000 }), (ms) => {
      const text = new Date(ms).toISOString();
      assert.equal(instantText(ms), text);
      assert.equal(parseInstantMs(text), ms);
      assert.equal(parseInstantMs(text.replace('Z', '-05:30')), ms + 19_800_000);
    }),
  );
  assert.equal(parseInstantMs('2026-02-30'), undefined);
  assert.equal(parseInstantMs('2026-11-22T24:00:00Z'), undefined);
  assert.equal(parseInstantMs('yesterday'), undefined);
  assert.equal(parseInstantMs('2026-11-22'), START_MS);
});

test('distinct integers are counted as a Set does', () => {
  fc.assert(
    fc.property(fc.array(fc.maxSafeNat(), { maxLength: 3000 }), (values) => {
      const distinct = new DistinctIntegers();
      for (const value of [...values, ...values]) distinct.add(value);
      assert.equal(distinct.count, new Set(values).size);
    }),
    { numRuns: 20 },
  );
});
