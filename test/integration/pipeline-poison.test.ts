/**
 * Issue 3, "Bad input": every poison form of faults.md 109 to 121 through Kafka in one topic. Bronze has
 * each record byte for byte (P4, I4), silver the valid ones, the dead letters the rest with the right
 * flag (P6, I6), and memory stays bounded (P10).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Kafka, logLevel, type Message, type Producer } from 'kafkajs';
import { PipelineFixture, type RunResult } from '../support/pipeline-fixture.ts';
import { TableReader } from '../support/pipeline-tables.ts';
import { sharedKafka } from '../support/servers.ts';

const DEFINITION = {
  name: 'poison',
  event: {
    id: 'id',
    time: 'at',
    schema: {
      fields: {
        id: { type: 'string', required: true },
        at: { type: 'timestamp', required: true },
        who: { type: 'string', required: true },
        n: 'long',
        small: 'integer',
        x: 'double',
        price: 'decimal(18,6)',
        ok: 'boolean',
        s: 'string',
        day: 'date',
        tags: 'array<string>',
        client: 'struct<name:string,version:string>',
        counts: 'map<string,long>',
      },
    },
  },
  gold: [
    { name: 'hourly', window: '1h', groupBy: ['who'], measures: { events: { fn: 'count' } } },
    {
      name: 'daily',
      window: '1d',
      measures: { price: { fn: 'sum', field: 'price' }, n: { fn: 'max', field: 'n' } },
    },
  ],
};

/** 2026-11-22T10:00:00Z; events happen a second before they arrive. */
const ARRIVAL_MS = 1_795_341_600_000;
const MEMORY_MAX = 1.5 * 2 ** 30;
const MEGABYTE = 1_000_000;

/** A record and what must become of it. */
interface Poison {
  readonly what: string;
  readonly value: Buffer | null;
  readonly key: Buffer | null;
  readonly headers?: Message['headers'];
  readonly partition: number;
  /** Silver's columns that are given, or the flags of the dead letter, or a duplicate. */
  readonly becomes:
    | { readonly silver: Readonly<Record<string, unknown>> }
    | { readonly dead: string }
    | 'duplicate'
    | 'too large';
}

class PoisonList {
  readonly records: Poison[] = [];

  dead(flag: string, what: string, value: string | Uint8Array | null): void {
    this.#add(what, value, { dead: flag });
  }

  /** An event with an id of its own and these further members. */
  event(what: string, members: string, silver: Readonly<Record<string, unknown>>): void {
    this.#add(what, eventText(what, members), { silver: { ...PLAIN, ...silver } });
  }

  /** An event of another time than all others, alone in the second partition. */
  eventAt(what: string, time: string, silver: Readonly<Record<string, unknown>>): void {
    const value = eventText(what, '').replace(EVENT_TIME, time);
    this.#add(what, value, { silver: { ...PLAIN, ...silver } }, { partition: 1 });
  }

  tooLarge(what: string, bytes: number): void {
    this.#add(what, Buffer.alloc(bytes, 'a'), 'too large');
  }

  duplicate(what: string, value: string, partition = 0): void {
    this.#add(what, value, 'duplicate', { partition });
  }

  /** An event whose key or headers are odd. */
  odd(what: string, odd: Partial<Poison>): void {
    this.#add(what, eventText(what, ''), { silver: {} }, odd);
  }

  #add(
    what: string,
    value: string | Uint8Array | null,
    becomes: Poison['becomes'],
    more: Partial<Poison> = {},
  ): void {
    this.records.push({
      what,
      value: value === null ? null : Buffer.from(value),
      key: Buffer.from('key'),
      partition: 0,
      becomes,
      ...more,
    });
  }
}

const EVENT_TIME = '2026-11-22T09:59:59Z';
/** What silver says of an event without oddities. */
const PLAIN = {
  _quality_flags: null,
  _rescued: null,
  _arrival_delay_seconds: 1,
  _is_late_arriving: false,
};

function eventText(id: string, members: string): string {
  return `{"id":${JSON.stringify(id)},"at":"${EVENT_TIME}","who":"w"${members}}`;
}

const GOOD = eventText('never', '');
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
const rescued = (members: string): Readonly<Record<string, unknown>> => ({
  _rescued: `{${members}}`,
});
const flagged = (...flags: string[]): Readonly<Record<string, unknown>> => ({
  _quality_flags: flags,
});

/** faults.md 109 to 119 and 122: values that are no events, or not quite. */
function poisonForms(): PoisonList {
  const list = new PoisonList();
  list.event('plain', ',"n":1,"tags":["a","b"]', { n: '1', tags: ['a', 'b'] });

  list.dead('tombstone', '109 tombstone', null);
  list.dead('empty', '109 no bytes', '');
  list.dead('empty', '109 white space', ' \r\n\t');
  list.dead('invalid_json', '109 text', 'not json at all #7');
  list.dead('invalid_json', '109 cut off', GOOD.slice(0, 30));
  list.dead('invalid_json', '109 bare word', '{"id":oops}');
  list.dead('invalid_json', '109 two values', `${GOOD}${GOOD}`);
  list.dead('invalid_json', '109 trailing comma', '{"id":"e",}');
  list.dead('not_an_object', '109 null', 'null');
  list.dead('not_an_object', '109 number', ' 12 ');
  list.dead('not_an_object', '109 string', '"{}"');
  list.dead('not_an_object', '109 array', `[${GOOD}]`);

  list.dead('invalid_utf8', '110 stray byte', bytes(0x7b, 0xff, 0x7d));
  list.dead('invalid_utf8', '110 overlong', bytes(0x22, 0xc0, 0xaf, 0x22));
  list.dead('invalid_utf8', '110 surrogate', bytes(0x22, 0xed, 0xa0, 0x80, 0x22));
  list.dead('invalid_utf8', '110 cut off', bytes(0x22, 0xf0, 0x9f, 0x98));
  list.dead('invalid_json', '110 byte order mark', `\ufeff${GOOD}`);
  list.dead('invalid_json', '110 raw NUL', '{"s":"\u0000"}');
  list.dead('missing_id', '110 lone surrogate id', GOOD.replace('never', '\\ud800'));
  list.event('110 lone surrogate', ',"s":"a\\ud800"', {
    s: null,
    ...flagged('type_mismatch:s'),
    ...rescued('"s":"a\\ud800"'),
  });
  list.event('110 escaped NUL', ',"s":"a\\u0000b"', { s: 'a\0b' });
  list.event('110 four-byte text', ',"s":"é😀\\ud83d\\ude00"', { s: 'é😀😀' });
  list.dead('invalid_json', '111 UTF-16', Buffer.from(GOOD, 'utf16le'));
  list.dead('invalid_utf8', '111 UTF-16 with mark', Buffer.from(`\ufeff${GOOD}`, 'utf16le'));

  list.event('112 duplicate keys', ',"n":1,"n":2', { n: '2', ...flagged('duplicate_keys') });
  list.event('113 prototype names', ',"__proto__":{"p":1},"constructor":2,"toString":3', {
    ...flagged('unknown_fields'),
    ...rescued('"__proto__":{"p":1},"constructor":2,"toString":3'),
  });
  list.event('113 prototype names in a map', ',"counts":{"__proto__":1,"hasOwnProperty":2}', {
    counts: [
      { key: '__proto__', value: '1' },
      { key: 'hasOwnProperty', value: '2' },
    ],
  });

  list.event('114 int64', ',"n":9223372036854775807', { n: '9223372036854775807' });
  list.event('114 2^53 + 1', ',"n":9007199254740993', { n: '9007199254740993' });
  list.event('114 2^63', ',"n":9223372036854775808', {
    n: null,
    ...flagged('out_of_range:n'),
    ...rescued('"n":9223372036854775808'),
  });
  list.event('114 20 digits', ',"n":12345678901234567890', {
    n: null,
    ...flagged('out_of_range:n'),
    ...rescued('"n":12345678901234567890'),
  });
  list.event('114 decimal', ',"price":123456789012.345678', { price: '123456789012.345678' });
  list.event('114 decimal of 30 digits', ',"price":0.123456789012345678901234567890', {
    price: null,
    ...flagged('out_of_range:price'),
    ...rescued('"price":0.123456789012345678901234567890'),
  });
  list.event('114 1e400', ',"x":1e400', {
    x: null,
    ...flagged('out_of_range:x'),
    ...rescued('"x":1e400'),
  });
  list.event('114 17 digits', ',"x":0.30000000000000004', { x: 0.30000000000000004 });
  list.dead('invalid_json', '114 NaN', '{"x":NaN}');
  list.dead('invalid_json', '114 Infinity', '{"x":-Infinity}');

  list.dead('too_deep', '115 a million arrays', nested(1_000_000));
  list.dead('too_deep', '115 a million objects', '{"a":'.repeat(1_000_000));
  list.dead('too_deep', '115 in a field', `{"tags":${nested(64)}}`);
  list.event('115 just deep enough', `,"deep":${nested(63)}`, {
    ...flagged('unknown_fields'),
    ...rescued(`"deep":${nested(63)}`),
  });

  const wide = Array.from({ length: 100_000 }, (_, i) => `"f${i}":${i}`).join(',');
  list.event('116 100,000 fields', `,${wide}`, { ...flagged('unknown_fields'), ...rescued(wide) });
  const long = 'k'.repeat(MEGABYTE);
  list.event('116 a megabyte name', `,"${long}":1`, {
    ...flagged('unknown_fields'),
    ...rescued(`"${long}":1`),
  });
  const longer = 'v'.repeat(12 * MEGABYTE);
  list.event('116 a text of 12 MB', `,"s":"${longer}"`, { s: longer });
  list.tooLarge('116 a value of 50 MB', 50 * MEGABYTE);

  list.event('117 number for text', ',"s":12', {
    s: null,
    ...flagged('type_mismatch:s'),
    ...rescued('"s":12'),
  });
  list.event('117 text for number', ',"n":"12","ok":"true"', {
    n: null,
    ok: null,
    ...flagged('type_mismatch:n', 'type_mismatch:ok'),
    ...rescued('"n":"12","ok":"true"'),
  });
  list.event('117 scalar for object', ',"client":"curl"', {
    client: null,
    ...flagged('type_mismatch:client'),
    ...rescued('"client":"curl"'),
  });
  list.event('117 object for scalar', ',"n":{ "a": 1 }', {
    n: null,
    ...flagged('type_mismatch:n'),
    ...rescued('"n":{ "a": 1 }'),
  });
  list.event('117 mixed array', ',"tags":["a",1]', {
    tags: null,
    ...flagged('type_mismatch:tags'),
    ...rescued('"tags":["a",1]'),
  });

  list.event('118 odd names', ',"a.b":1,"c d":2,"x=":3,"":4,"N":5', {
    ...flagged('unknown_fields'),
    ...rescued('"a.b":1,"c d":2,"x=":3,"":4,"N":5'),
  });
  list.event('118 unknown member', ',"client":{"name":"curl","os":"x"}', {
    client: { name: 'curl', version: null },
    ...flagged('unknown_fields'),
    ...rescued('"client.os":"x"'),
  });
  list.dead('missing_id', '118 no id', '{"at":"2026-11-22T09:59:59Z","who":"w"}');
  list.dead('missing_id', '118 id in another case', GOOD.replace('"id"', '"Id"'));
  list.dead('missing_time', '118 no time', '{"id":"never","who":"w"}');
  list.dead('missing_required:who', '118 required field', GOOD.replace('"w"', 'null'));

  const at = (time: string): string => GOOD.replace(EVENT_TIME, time);
  list.dead('invalid_time', '119 Feb 30', at('2026-02-30T00:00:00Z'));
  list.dead('invalid_time', '119 no zone', at('2026-11-22T09:59:59'));
  list.dead('invalid_time', '119 year 0', at('0000-01-01T00:00:00Z'));
  list.dead('invalid_time', '119 year 275760', at('275760-09-13T00:00:00Z'));
  list.dead('invalid_time', '119 epoch', GOOD.replace(`"${EVENT_TIME}"`, '1795341599'));
  list.event('119 impossible date', ',"day":"2026-02-30"', {
    day: null,
    ...flagged('type_mismatch:day'),
    ...rescued('"day":"2026-02-30"'),
  });
  list.event('119 leap day', ',"day":"2028-02-29"', { day: '2028-02-29' });

  const bait = `${'a'.repeat(100_000)}!`;
  list.event('122 bait for regular expressions', `,"s":"${bait}"`, { s: bait });
  return list;
}

/** faults.md 120 and 121: ids that come again, odd keys and headers; and the largest value. */
function oddRecords(list: PoisonList): void {
  list.event('again', ',"n":7', { n: '7' });
  list.duplicate('120 same bytes', eventText('again', ',"n":7'));
  list.duplicate(
    '120 same payload',
    '{"n":7.0,"who":"w","at":"2026-11-22T10:59:59+01:00","id":"again"}',
  );
  list.dead('conflicting_duplicate', '120 other payload', eventText('again', ',"n":8'));
  list.odd('121 no key', { key: null });
  list.odd('121 empty key', { key: Buffer.alloc(0) });
  list.odd('121 binary key', { key: Buffer.from([0xff, 0x00, 0xfe]) });
  list.odd('121 a megabyte key', { key: Buffer.alloc(MEGABYTE, 'K') });
  list.odd('121 headers', {
    headers: { trace: 'abc', twice: ['1', '2'], binary: Buffer.from([0xff, 0x00]) },
  });
  list.tooLarge('116 a value of 100 MB', 100 * MEGABYTE);
  list.event('after the largest', '', {});
  // Times that a watermark must not follow, in a partition without others.
  const delayOf = (time: string): number => (ARRIVAL_MS - Date.parse(time)) / 1000;
  const late = { _is_late_arriving: true };
  const before = '1969-12-31T23:59:59Z';
  list.eventAt('106 before the epoch', before, {
    ...late,
    _arrival_delay_seconds: delayOf(before),
  });
  const zero = '0001-01-01T00:00:00Z';
  list.eventAt('106 year 1', zero, { ...late, _arrival_delay_seconds: delayOf(zero) });
  const future = '9999-12-31T23:59:59Z';
  list.eventAt('106 year 9999', future, {
    ...flagged('future_event_time'),
    _arrival_delay_seconds: delayOf(future),
  });
}

test('109 to 122: each poison form ends where it belongs, and none stops the pipeline', async (t) => {
  const pipeline = await PipelineFixture.create(t, {
    definition: DEFINITION,
    on: 'servers',
    partitions: 2,
    topicSettings: { 'max.message.bytes': String(104_000_000) },
  });
  const topic = new TopicWriter(await openProducer(t), pipeline.topic!.config.topic);
  const list = poisonForms();
  oddRecords(list);
  await topic.write(list.records);

  const memory = await runWatched(pipeline);
  t.diagnostic(`resident memory up to ${Math.round(memory / 2 ** 20)} MiB`);
  assert.ok(memory < MEMORY_MAX, `resident memory rose to ${memory} bytes`);

  // Across batches, partitions and a restart.
  const again = new PoisonList();
  again.duplicate('120 after a restart', eventText('again', ',"n":7'));
  again.duplicate('120 in another partition', eventText('plain', ',"n":1,"tags":["a","b"]'), 1);
  again.dead('conflicting_duplicate', '120 other payload later', eventText('plain', ',"n":2'));
  again.dead('tombstone', '109 tombstone later', null);
  again.event('last', '', {});
  await topic.write(again.records);
  await runWatched(pipeline);

  const lake = await pipeline.lakeFolder();
  const reader = await TableReader.open(t);
  await reader.attach('bronze', join(lake, 'bronze/poison'));
  await reader.attach('dead', join(lake, 'bronze/poison_dlq'));
  await reader.attach('silver', join(lake, 'silver/poison'));
  await reader.attach('hourly', join(lake, 'gold/hourly'));
  await reader.attach('daily', join(lake, 'gold/daily'));
  const written = topic.written.toSorted(
    (a, b) => a.partition - b.partition || a.offset - b.offset,
  );

  await t.test('bronze has each record byte for byte', () => assertBronze(reader, written));
  await t.test('silver has the valid ones', () => assertSilver(reader, written));
  await t.test('dead letters are the rest, flagged', () => assertDead(reader, written));
  await t.test('counts add up', async () => {
    const { stages } = await pipeline.verify();
    const count = (test: (becomes: Poison['becomes']) => boolean): number =>
      written.filter(({ becomes }) => test(becomes)).length;
    const silver = count((b) => typeof b === 'object' && 'silver' in b);
    const conflicts = count((b) => typeof b === 'object' && 'dead' in b && /conflict/.test(b.dead));
    const duplicates = count((b) => b === 'duplicate');
    assert.deepEqual(stages, {
      bronzeRows: written.length,
      silverRows: silver,
      duplicates,
      conflicts,
      deadLetters: written.length - silver - conflicts - duplicates,
    });
    await reader.assertSame(
      'SELECT who, epoch_us(window_start), events FROM hourly',
      `SELECT who, us - ((us % 3600e6::BIGINT) + 3600e6::BIGINT) % 3600e6::BIGINT, count(*)
        FROM (SELECT who, epoch_us("at") AS us FROM silver) GROUP BY ALL`,
      'events per hour',
    );
    await reader.assertSame(
      'SELECT _event_date, price, n FROM daily',
      'SELECT _event_date, sum(price), max(n) FROM silver GROUP BY ALL',
      'sums per day',
    );
  });
});

/** Runs until caught up. @returns the memory of all its processes at its largest, bytes */
async function runWatched(pipeline: PipelineFixture): Promise<number> {
  const process = pipeline.start(['run', '--until-caught-up']);
  let peak = 0;
  const watch = setInterval(() => {
    if (process.isRunning) peak = Math.max(peak, process.peakMemoryBytes);
  }, 100);
  try {
    const { code, stdout, stderr } = await process.ended();
    assert.equal(code, 0, `${stdout}\n${stderr}`);
    assert.deepEqual((JSON.parse(stdout) as RunResult).failures, []);
  } finally {
    clearInterval(watch);
  }
  return peak;
}

async function openProducer(t: TestContext): Promise<Producer> {
  const client = new Kafka({
    brokers: [await sharedKafka()],
    logLevel: logLevel.ERROR,
    requestTimeout: 120_000,
  });
  const producer = client.producer();
  await producer.connect();
  t.after(() => producer.disconnect());
  return producer;
}

/** Where a record is in the topic. */
interface Written extends Poison {
  readonly offset: number;
}

/** Writes records in requests of bounded size and remembers their offsets. */
class TopicWriter {
  readonly written: Written[] = [];
  readonly #producer: Producer;
  readonly #topic: string;

  constructor(producer: Producer, topic: string) {
    this.#producer = producer;
    this.#topic = topic;
  }

  async write(records: readonly Poison[]): Promise<void> {
    for (let from = 0; from < records.length; ) {
      const { partition } = records[from]!;
      let to = from + 1;
      let size = sizeOf(records[from]!);
      while (to < records.length && records[to]!.partition === partition) {
        size += sizeOf(records[to]!);
        if (size > MEGABYTE) break;
        to += 1;
      }
      await this.#send(partition, records.slice(from, to));
      from = to;
    }
  }

  async #send(partition: number, records: readonly Poison[]): Promise<void> {
    const messages = records.map(
      ({ key, value, headers }): Message => ({
        partition,
        key,
        value,
        timestamp: String(ARRIVAL_MS),
        ...(headers ? { headers } : {}),
      }),
    );
    const [answer] = await this.#producer.send({ topic: this.#topic, messages, acks: -1 });
    const base = Number(answer!.baseOffset);
    records.forEach((record, i) => this.written.push({ ...record, offset: base + i }));
  }
}

function sizeOf({ key, value }: Poison): number {
  return (key?.length ?? 0) + (value?.length ?? 0);
}

function sha256(data: Buffer | null): string | null {
  return data === null ? null : createHash('sha256').update(data).digest('hex');
}

async function assertBronze(reader: TableReader, written: readonly Written[]): Promise<void> {
  const rows = await reader.rows(`SELECT _kafka_partition AS partition,
      _kafka_offset::INTEGER AS "offset", _raw_value IS NOT NULL AS is_text,
      coalesce(sha256(_raw_value), sha256(_raw_bytes)) AS value, sha256(_kafka_key) AS key,
      _value_size AS size, epoch_ms(_kafka_timestamp)::DOUBLE AS timestamp_ms
    FROM bronze ORDER BY ALL`);
  const expected = written.map(({ value, key, partition, offset, becomes }) => ({
    partition,
    offset,
    is_text: value !== null && becomes !== 'too large' && isUtf8Text(value),
    value: becomes === 'too large' ? null : sha256(value),
    key: sha256(key),
    size: value === null ? null : value.length,
    timestamp_ms: ARRIVAL_MS,
  }));
  assert.deepEqual(rows, expected);
  const { headers } = await reader.row(`SELECT
    list_transform(_kafka_headers, lambda h : h.key || '=' || hex(h.value)) AS headers
    FROM bronze WHERE len(_kafka_headers) > 0`);
  assert.deepEqual(headers, ['trace=616263', 'twice=31', 'twice=32', 'binary=FF00']);
}

function isUtf8Text(value: Buffer): boolean {
  return Buffer.from(value.toString()).equals(value);
}

async function assertSilver(reader: TableReader, written: readonly Written[]): Promise<void> {
  const rows = await reader.rows(`SELECT * REPLACE (map_entries(counts) AS counts),
    _kafka_offset::INTEGER AS "offset" FROM silver ORDER BY _kafka_partition, _kafka_offset`);
  const valid = written.flatMap(({ becomes, ...record }) =>
    typeof becomes === 'object' && 'silver' in becomes
      ? [{ ...record, silver: becomes.silver }]
      : [],
  );
  assert.deepEqual(
    rows.map((row) => [row['_kafka_partition'], row['offset'], row['id']]),
    valid.map(({ what, partition, offset }) => [partition, offset, what]),
  );
  valid.forEach(({ what, silver }, i) => {
    for (const [column, value] of Object.entries(silver)) {
      assert.deepEqual(rows[i]![column], value, `${what}: ${column}`);
    }
  });
}

async function assertDead(reader: TableReader, written: readonly Written[]): Promise<void> {
  const rows =
    await reader.rows(`SELECT _kafka_offset::INTEGER AS "offset", _quality_flags AS flags,
      coalesce(sha256(_raw_value), sha256(_raw_bytes)) AS value, length(_error) > 10 AS says_why
    FROM dead ORDER BY _kafka_partition, _kafka_offset`);
  const dead = written.flatMap(({ becomes, value, offset }) => {
    if (becomes === 'too large') {
      return [{ offset, flags: ['too_large'], value: null, says_why: true }];
    }
    if (becomes === 'duplicate' || !('dead' in becomes)) return [];
    return [{ offset, flags: [becomes.dead], value: sha256(value), says_why: true }];
  });
  assert.deepEqual(rows, dead);
}
