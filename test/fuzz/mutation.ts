/** fast-check generators of damage: to bytes, to texts, and to the values of a JSON document. */
import fc from 'fast-check';

const INTERESTING_BYTES = [0, 1, 0x7f, 0x80, 0xff, 0x22, 0x5c, 0x7b, 0x7d, 0x2c, 0x0a];
const INTERESTING_WORDS = [0, 1, -1, 0x7fff_ffff, -0x8000_0000, 0x1000_0000, 61, 12];

/** One change; positions are taken modulo the size of what is changed. */
interface Damage {
  readonly kind: 'flip' | 'byte' | 'word' | 'cut' | 'drop' | 'double' | 'insert' | 'swap';
  readonly at: number;
  readonly size: number;
  readonly value: number;
}

const damage: fc.Arbitrary<Damage> = fc.record({
  kind: fc.constantFrom(
    'flip',
    'flip',
    'byte',
    'byte',
    'word',
    'cut',
    'drop',
    'double',
    'insert',
    'swap',
  ),
  at: fc.nat(1 << 20),
  size: fc.integer({ min: 1, max: 40 }),
  value: fc.nat(255),
});

function damaged(bytes: Buffer, { kind, at: place, size, value }: Damage): Buffer {
  if (bytes.length === 0) return Buffer.of(value);
  const at = place % bytes.length;
  const end = Math.min(bytes.length, at + size);
  const copy = Buffer.from(bytes);
  switch (kind) {
    case 'flip':
      copy[at]! ^= 1 << (value & 7);
      return copy;
    case 'byte':
      copy[at] = INTERESTING_BYTES[value % INTERESTING_BYTES.length]!;
      return copy;
    case 'word':
      if (at + 4 > copy.length) return copy.subarray(0, at);
      copy.writeInt32BE(INTERESTING_WORDS[value % INTERESTING_WORDS.length]!, at);
      return copy;
    case 'cut':
      return copy.subarray(0, at);
    case 'drop':
      return Buffer.concat([copy.subarray(0, at), copy.subarray(end)]);
    case 'double':
      return Buffer.concat([copy.subarray(0, end), copy.subarray(at)]);
    case 'insert':
      return Buffer.concat([copy.subarray(0, at), Buffer.alloc(size, value), copy.subarray(at)]);
    case 'swap': {
      const half = at + ((end - at) >> 1);
      const parts = [copy.subarray(half, end), copy.subarray(at, half)];
      return Buffer.concat([copy.subarray(0, at), ...parts, copy.subarray(end)]);
    }
  }
}

/** Damage to any bytes: one to four changes. */
export const byteDamage: fc.Arbitrary<(bytes: Uint8Array) => Buffer> = fc
  .array(damage, { minLength: 1, maxLength: 4 })
  .map((changes) => {
    const change = (bytes: Uint8Array): Buffer => changes.reduce(damaged, Buffer.from(bytes));
    return named(change, JSON.stringify(changes));
  });

/** Values that no writer means, as JSON texts. */
const HOSTILE = [
  'null',
  'true',
  '0',
  '-1',
  '1.5',
  '1e400',
  '9007199254740993',
  '9223372036854775808',
  '-123456789012345678901234567890',
  '""',
  '"x"',
  '"1"',
  '"\\ud800"',
  '"\\u0000"',
  '"../../x"',
  '"file:///etc/passwd"',
  '"%"',
  '"%2e%2e/x"',
  '"__proto__"',
  '[]',
  '{}',
  '[null]',
  '[[]]',
  '{"__proto__":{"x":1}}',
  '{"constructor":null}',
  `${'['.repeat(5_000)}${']'.repeat(5_000)}`,
  JSON.stringify('x'.repeat(70_000)),
];

interface ValueDamage {
  readonly kind: 'replace' | 'drop' | 'rename' | 'double' | 'move';
  readonly at: number;
  readonly other: number;
  readonly value: number;
}

const valueDamage: fc.Arbitrary<ValueDamage> = fc.record({
  kind: fc.constantFrom('replace', 'replace', 'replace', 'drop', 'rename', 'double', 'move'),
  at: fc.nat(10_000),
  other: fc.nat(10_000),
  value: fc.nat(HOSTILE.length - 1),
});

/** A place in a document: the object or list, and the key in it. */
type Place = readonly [holder: Record<string, unknown>, key: string];

function placesOf(value: unknown, into: Place[] = []): Place[] {
  if (typeof value !== 'object' || value === null || value instanceof Raw) return into;
  for (const key of Object.keys(value)) {
    into.push([value as Record<string, unknown>, key]);
    placesOf((value as Record<string, unknown>)[key], into);
  }
  return into;
}

/** Stands for a text that has to appear in the JSON as it is. */
class Raw {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

function textOf(value: unknown): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value);
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${textOf(item)}`).join()}}`;
}

function change(root: { value: unknown }, { kind, at, other, value }: ValueDamage): void {
  const places = placesOf(root);
  const [holder, key] = places[at % places.length]!;
  const [from, fromKey] = places[other % places.length]!;
  switch (kind) {
    case 'replace':
      holder[key] = new Raw(HOSTILE[value]!);
      return;
    case 'drop':
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else if (holder !== (root as object)) delete holder[key];
      return;
    case 'rename':
      if (Array.isArray(holder) || holder === (root as object)) return;
      holder[`${key}x`] = holder[key];
      delete holder[key];
      return;
    case 'double':
      if (Array.isArray(holder)) holder.push(holder[Number(key)]);
      return;
    case 'move':
      // A copy as text, since a value within itself has none.
      holder[key] = new Raw(textOf(from[fromKey]));
      return;
  }
}

/** Damage to the values of a JSON text: one to three changes; other texts stay as they are. */
export const jsonDamage: fc.Arbitrary<(text: string) => string> = fc
  .array(valueDamage, { minLength: 1, maxLength: 3 })
  .map((changes) => {
    const apply = (text: string): string => {
      try {
        const root: { value: unknown } = { value: JSON.parse(text) };
        for (const one of changes) change(root, one);
        return textOf(root.value);
      } catch {
        // Not JSON, or nested more deeply by an earlier damage than can be walked.
        return text;
      }
    };
    return named(apply, JSON.stringify(changes));
  });

/** Damage to one line of newline-delimited JSON. */
export const lineDamage: fc.Arbitrary<(bytes: Uint8Array) => Buffer> = fc
  .tuple(fc.nat(10_000), jsonDamage)
  .map(([place, mend]) => {
    const apply = (bytes: Uint8Array): Buffer => {
      const lines = Buffer.from(bytes).toString().split('\n');
      const at = place % Math.max(1, lines.length - 1);
      return Buffer.from(lines.map((line, i) => (i === at ? mend(line) : line)).join('\n'));
    };
    return named(apply, `line ${place}: ${String(mend)}`);
  });

/** Lets a failing case be read in the report. */
function named<F extends (given: never) => unknown>(apply: F, text: string): F {
  return Object.assign(apply, { toString: () => text, [fc.toStringMethod]: () => text });
}
