/** Random event declarations, and JSON texts that fit them, nearly fit them, or do not. */
import fc from 'fast-check';
import type { EventConfig } from '../../../src/pipeline/pipeline-config.ts';
import {
  type DataType,
  type PrimitiveName,
  primitive,
  struct,
} from '../../../src/pipeline/types.ts';

/** Declared names, some of which need escapes, some of which are prefixes of others. */
const NAMES = ['a', 'ab', 'k', 'naïve', 'q"uote', 'back\\slash', 'a.b', 'c d', 'x='];
/** Names that are never declared. */
const UNKNOWN_NAMES = [
  '__proto__',
  'Id',
  'ID',
  'constructor',
  'toString',
  'extra',
  'i',
  'é',
  'a.b.c',
  '',
];

const scalarType = fc.constantFrom<PrimitiveName>(
  'string',
  'long',
  'integer',
  'short',
  'byte',
  'float',
  'double',
  'boolean',
  'binary',
  'date',
  'timestamp',
);

const decimalType = fc
  .integer({ min: 1, max: 38 })
  .chain((precision) =>
    fc
      .integer({ min: 0, max: precision })
      .map((scale): DataType => ({ kind: 'decimal', precision, scale })),
  );

/** A type with at most `depth` levels of nesting. */
export function dataType(depth: number): fc.Arbitrary<DataType> {
  const flat = fc.oneof(scalarType.map(primitive), decimalType);
  if (depth === 0) return flat;
  const inner = dataType(depth - 1);
  return fc.oneof(
    { weight: 4, arbitrary: flat },
    {
      weight: 1,
      arbitrary: fc
        .tuple(inner, fc.boolean())
        .map(([element, containsNull]): DataType => ({ kind: 'array', element, containsNull })),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(inner, fc.boolean()).map(
        ([value, valueContainsNull]): DataType => ({
          kind: 'map',
          key: primitive('string'),
          value,
          valueContainsNull,
        }),
      ),
    },
    { weight: 1, arbitrary: structType(inner, 3) },
  );
}

function structType(inner: fc.Arbitrary<DataType>, fieldsMax: number): fc.Arbitrary<DataType> {
  return fc
    .uniqueArray(fc.constantFrom(...NAMES), { minLength: 1, maxLength: fieldsMax })
    .chain((names) => fc.tuple(...names.map((name) => fieldOf(name, inner))))
    .map(struct);
}

function fieldOf(name: string, type: fc.Arbitrary<DataType>) {
  return fc
    .tuple(type, fc.integer({ min: 0, max: 4 }))
    .map(([t, n]) => ({ name, type: t, nullable: n > 0 }));
}

/** An event declaration with an id, a time and up to four other fields. */
export const eventConfig: fc.Arbitrary<EventConfig> = fc
  .tuple(
    fc.constantFrom<DataType>(
      primitive('string'),
      primitive('string'),
      primitive('long'),
      primitive('short'),
      primitive('double'),
      primitive('binary'),
      primitive('date'),
      { kind: 'decimal', precision: 20, scale: 2 },
    ),
    fc.constantFrom<EventConfig['time']['unit']>('rfc3339', 'rfc3339', 's', 'ms', 'us'),
    fc
      .uniqueArray(fc.constantFrom(...NAMES), { maxLength: 4 })
      .chain((names) => fc.tuple(...names.map((name) => fieldOf(name, dataType(2))))),
    fc.integer({ min: 0, max: 4 }),
  )
  .map(([idType, unit, others, place]) => {
    const fields = [...others];
    fields.splice(Math.min(place, fields.length), 0, { name: 'id', type: idType, nullable: false });
    fields.push({ name: 'at', type: primitive('timestamp'), nullable: false });
    return {
      id: 'id',
      time: { field: 'at', unit },
      schemaVersion: 3,
      schema: struct(fields),
    };
  });

const numberText = fc.oneof(
  fc.integer({ min: -5, max: 200 }).map(String),
  fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }).map(String),
  fc.constantFrom(
    '0',
    '-0',
    '-0.0',
    '1.0',
    '1e3',
    '12.50',
    '1E+2',
    '100e-2',
    '0e999999999999',
    '1e400',
    '-1e400',
    '1e-400',
    '127',
    '128',
    '-128',
    '-129',
    '32768',
    '2147483647',
    '2147483648',
    '-2147483649',
    '9007199254740993',
    '9223372036854775807',
    '9223372036854775808',
    '-9223372036854775808',
    '-9223372036854775809',
    '999999999999999',
    '1000000000000000',
    '123456789012345678901234567890123456.78',
    '0.1234567890123456789',
    '3.4028235e38',
    '3.5e38',
    '1.7976931348623157e308',
    '1.7976931348623159e308',
    '4.9e-324',
    '0.1',
    '123456.789012',
  ),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc
    .tuple(fc.bigInt({ min: -(10n ** 17n), max: 10n ** 17n }), fc.nat(99_999_999))
    .map(([whole, part]) => `${whole}.${part}`),
);

/** RFC 3339 texts, right and wrong. */
export const instantText = fc.oneof(
  fc
    .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
    .map((date) => date.toISOString()),
  fc.constantFrom(
    '2026-11-22T10:00:00Z',
    '2026-11-22t10:00:00.123456789z',
    '2026-11-22 10:00:00.5+05:45',
    '2016-12-31T23:59:60Z',
    '2016-12-31T18:59:60.25-05:00',
    '2017-01-01T00:59:60+01:00',
    '2026-06-30T12:00:60Z',
    '2026-02-30T00:00:00Z',
    '2024-02-29T00:00:00Z',
    '2100-02-29T00:00:00Z',
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00+00:01',
    '9999-12-31T23:59:59.999999Z',
    '9999-12-31T23:59:60Z',
    '10000-01-01T00:00:00Z',
    '2026-11-22T24:00:00Z',
    '2026-11-22T10:60:00Z',
    '2026-11-22T10:00:00',
    '2026-11-22T10:00Z',
    '2026-11-22T10:00:00.Z',
    '2026-11-22T10:00:00+24:00',
    '2026-11-22T10:00:00+0100',
    '2026-11-22T10:00:00 Z',
    '2026-11-22',
    '1969-12-31T23:59:59.999999Z',
  ),
);

const dateText = fc.oneof(
  instantText.map((text) => text.slice(0, 10)),
  fc.constantFrom('2026-13-01', '2026-00-10', '2026-1-01', '2026-01-32', '0000-01-01'),
);

/** A JSON string literal, at times with more escapes than it needs. */
function quoted(text: string, escapeAt: number): string {
  const raw = JSON.stringify(text);
  if (escapeAt === 0 || text.length === 0) return raw;
  const at = escapeAt % text.length;
  const unit = text.charCodeAt(at).toString(16).padStart(4, '0');
  const before = JSON.stringify(text.slice(0, at)).slice(0, -1);
  return `${before}\\u${unit}${JSON.stringify(text.slice(at + 1)).slice(1)}`;
}

const escapeChoice = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(50));
const quotedOf = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(text, escapeChoice).map(([t, e]) => quoted(t, e));

const stringText = fc.oneof(
  quotedOf(fc.string({ unit: 'grapheme', maxLength: 8 })),
  fc.constantFrom(
    '""',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\ude00"',
    '"\\ud83d\\n"',
    '"\\ud83d\\ud83d\\ude00"',
    '"a\\/b\\b\\f\\n\\r\\t\\"\\\\"',
    '"\u007f\u2028"',
  ),
);

const binaryText = quotedOf(
  fc.oneof(
    fc.uint8Array({ maxLength: 7 }).map((bytes) => Buffer.from(bytes).toString('base64')),
    fc.constantFrom('QQ', 'QR==', 'QQ=', '====', 'Q===', 'QUJD\n', '-_8=', 'QQ==QQ=='),
  ),
);

const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('null', 'true', 'false', '{}', '[]', '[null]', '{"a":{"a":1}}', '[1,"x",{}]'),
  numberText,
  stringText,
  quotedOf(instantText),
);

const space = fc.constantFrom('', '', '', ' ', '\n', '\t\r ');

/** Text for a type: usually fitting. */
function textFor(type: DataType): fc.Arbitrary<string> {
  const fitting = fittingText(type);
  return fc.oneof({ weight: 12, arbitrary: fitting }, { weight: 1, arbitrary: anyText });
}

function fittingText(type: DataType): fc.Arbitrary<string> {
  switch (type.kind) {
    case 'decimal':
      return numberText;
    case 'array':
      return fc
        .tuple(fc.array(textFor(type.element), { maxLength: 3 }), space)
        .map(([items, s]) => `[${s}${items.join(`${s},${s}`)}${s}]`);
    case 'map': {
      const key = quotedOf(fc.constantFrom('k', 'kk', 'é', '', '__proto__'));
      return fc
        .tuple(fc.array(fc.tuple(key, textFor(type.value)), { maxLength: 3 }), space)
        .map(([entries, s]) => objectText(entries, s));
    }
    case 'struct':
      return membersText(type.fields.map(({ name, type: t }) => ({ name, text: textFor(t) })));
    case 'primitive':
      switch (type.name) {
        case 'string':
          return stringText;
        case 'binary':
          return binaryText;
        case 'boolean':
          return fc.constantFrom('true', 'false');
        case 'date':
          return quotedOf(dateText);
        case 'timestamp':
          return quotedOf(instantText);
        default:
          return numberText;
      }
  }
}

function objectText(entries: readonly (readonly [string, string])[], s: string): string {
  const members = entries.map(([key, value]) => `${key}${s}:${s}${value}`);
  return `{${s}${members.join(`${s},${s}`)}${s}}`;
}

/** Members in any order, some left out, some twice, some unknown. */
function membersText(
  fields: readonly { readonly name: string; readonly text: fc.Arbitrary<string> }[],
): fc.Arbitrary<string> {
  const declared = fields.map(({ name, text }) =>
    fc
      .tuple(quotedOf(fc.constant(name)), text, text, fc.nat(30))
      .map(([key, value, other, dice]): [string, string][] => {
        if (dice === 0) return [];
        const once: [string, string] = [key, value];
        return dice === 1 ? [once, [JSON.stringify(name), other]] : [once];
      }),
  );
  const unknown = fc.oneof(
    { weight: 3, arbitrary: fc.constant<[string, string][]>([]) },
    fc.array(fc.tuple(quotedOf(fc.constantFrom(...UNKNOWN_NAMES)), anyText), { maxLength: 3 }),
  );
  return fc
    .tuple(fc.tuple(...declared), unknown, fc.nat(1000), space)
    .map(([known, extra, turn, s]) => {
      const members = [...known.flat(), ...extra];
      const at = members.length === 0 ? 0 : turn % members.length;
      return objectText([...members.slice(at), ...members.slice(0, at)], s);
    });
}

/** The texts of an event's id come from a small pool, so that ids repeat. */
function idText(type: DataType): fc.Arbitrary<string> {
  if (type.kind === 'primitive' && type.name === 'string') {
    return fc.oneof(
      { weight: 20, arbitrary: fc.constantFrom('"a"', '"b"', '"\\u0061"', '"longer-id-0123456"') },
      { weight: 1, arbitrary: fc.constantFrom('""', '7', 'null', '"\\ud800"') },
    );
  }
  if (type.kind === 'primitive' && type.name === 'binary') {
    return fc.constantFrom('"QQ=="', '"QUI="', '""', '"Q"');
  }
  if (type.kind === 'primitive' && type.name === 'date') {
    return fc.constantFrom('"2026-01-01"', '"2026-01-02"', '"2026-02-30"');
  }
  return fc.constantFrom('1', '2', '1.0', '-0', '0', '300', '1e2', '1e99', '0.5', '12345678');
}

function timeText(unit: EventConfig['time']['unit']): fc.Arbitrary<string> {
  const near = fc.integer({ min: -9_000_000, max: 600_000 });
  const base = Date.parse('2026-11-22T00:10:00Z');
  if (unit === 'rfc3339') {
    const plausible = near.map((ms) => JSON.stringify(new Date(base + ms).toISOString()));
    return fc.oneof({ weight: 8, arbitrary: plausible }, quotedOf(instantText), anyText);
  }
  const perMs = { s: 0.001, ms: 1, us: 1000 }[unit];
  const plausible = near.map((ms) => String((base + ms) * perMs));
  return fc.oneof({ weight: 8, arbitrary: plausible }, numberText, anyText);
}

/** The text of an event of `config`, sometimes cut or mangled. */
export function eventText(config: EventConfig): fc.Arbitrary<string> {
  const fields = config.schema.fields.map(({ name, type }) => {
    if (name === config.id) return { name, text: idText(type) };
    if (name === config.time.field) return { name, text: timeText(config.time.unit) };
    return { name, text: textFor(type) };
  });
  const plain = fc.tuple(...fields.map(({ text }) => text)).map((texts) =>
    objectText(
      texts.map((text, i) => [JSON.stringify(fields[i]!.name), text] as const),
      '',
    ),
  );
  const whole = fc.oneof(plain, membersText(fields));
  return fc.oneof({ weight: 8, arbitrary: whole }, mutated(whole));
}

/** A text with one character taken out, put in or replaced, or with its end cut off. */
export function mutated(text: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const junk = fc.constantFrom(
    '',
    '"',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '0',
    '.',
    '\u0001',
    'é',
  );
  return fc.tuple(text, fc.nat(10_000), fc.nat(3), junk).map(([whole, place, kind, character]) => {
    const at = whole.length === 0 ? 0 : place % whole.length;
    if (kind === 0) return whole.slice(0, at);
    return whole.slice(0, at) + character + whole.slice(at + (kind === 1 ? 0 : 1));
  });
}
