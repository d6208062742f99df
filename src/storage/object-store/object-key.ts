/**
 * What every adapter agrees on about its arguments: which keys are legal, their order, byte ranges.
 *
 * K1 A key cannot leave the store's root: no empty, `.` or `..` segment, no leading or trailing
 *    slash, no backslash, no NUL; it is well-formed Unicode, so that its UTF-8 is unambiguous.
 * K2 No segment starts with `.tmp-`: those names belong to unfinished files of the fs adapter.
 * K3 Order is by UTF-8 bytes, as S3 lists; JavaScript's own `<` differs above U+FFFF.
 */
import { assert, PipelineError } from '../../errors.ts';

/** Bytes of an object: start inclusive, end exclusive; what lies behind the object's end is left out. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Prefix of the last path segment of a file that is still being written. */
export const TEMPORARY_PREFIX = '.tmp-';

/** S3's limit for a whole key, and the usual limit of file systems for one segment. */
const KEY_BYTES_MAX = 1024;
const SEGMENT_BYTES_MAX = 255;

/**
 * Checks K1 and K2.
 * @returns the key
 * @throws PipelineError invalid TM_STORE_DENIED
 */
export function checkKey(key: string): string {
  const problem = keyProblem(key);
  if (problem !== undefined) throw illegal('key', key, problem);
  return key;
}

/** Whether `checkKey` accepts it. */
export function isKey(key: string): boolean {
  return keyProblem(key) === undefined;
}

/**
 * Checks the prefix of a listing: any beginning of a legal key, or empty.
 * @throws PipelineError invalid TM_STORE_DENIED
 */
export function checkPrefix(prefix: string): string {
  const problem = prefixProblem(prefix);
  if (problem !== undefined) throw illegal('prefix', prefix, problem);
  return prefix;
}

/** A range holds at least one byte: an empty one has no form in HTTP. @throws PipelineError internal */
export function checkRange({ start, end }: ByteRange): void {
  assert(Number.isSafeInteger(start) && Number.isSafeInteger(end), 'a range is whole bytes');
  assert(start >= 0 && start < end, 'a range holds at least one byte', { start, end });
}

/** Orders keys by their UTF-8 bytes (K3) without encoding them. */
export function compareKeys(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x === y) continue;
    // A surrogate stands for a code point above U+FFFF, so it sorts after every other code unit.
    const xIsSurrogate = x >= 0xd800 && x <= 0xdfff;
    const yIsSurrogate = y >= 0xd800 && y <= 0xdfff;
    if (xIsSurrogate === yIsSurrogate) return x - y;
    return xIsSurrogate ? 1 : -1;
  }
  return a.length - b.length;
}

/** Index of the first of the ascending `keys` that is `>= bound`, or `> bound` when `exclusive`. */
export function lowerBound(keys: readonly string[], bound: string, exclusive = false): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareKeys(keys[middle]!, bound);
    if (order < 0 || (exclusive && order === 0)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function keyProblem(key: string): string | undefined {
  if (key === '') return 'is empty';
  return prefixProblem(key) ?? (key.endsWith('/') ? 'ends in /' : undefined);
}

function prefixProblem(prefix: string): string | undefined {
  if (prefix.startsWith('/')) return 'starts with /';
  if (prefix.includes('\0')) return 'holds a NUL';
  if (prefix.includes('\\')) return 'holds a backslash';
  if (!prefix.isWellFormed()) return 'is not well-formed Unicode';
  if (Buffer.byteLength(prefix) > KEY_BYTES_MAX) return `is longer than ${KEY_BYTES_MAX} bytes`;
  const segments = prefix.split('/');
  for (const [index, segment] of segments.entries()) {
    const isLast = index === segments.length - 1;
    if (segment === '' && !isLast) return 'has an empty segment';
    if (segment === '.' || segment === '..') return `has a segment ${segment}`;
    if (segment.startsWith(TEMPORARY_PREFIX)) return `has a segment ${TEMPORARY_PREFIX}`;
    if (segment.length * 3 > SEGMENT_BYTES_MAX && Buffer.byteLength(segment) > SEGMENT_BYTES_MAX) {
      return `has a segment longer than ${SEGMENT_BYTES_MAX} bytes`;
    }
  }
  return undefined;
}

function illegal(what: 'key' | 'prefix', value: string, problem: string): PipelineError {
  return new PipelineError('invalid', 'TM_STORE_DENIED', `object ${what} ${problem}`, {
    context: { [what]: JSON.stringify(value.slice(0, 200)) },
  });
}
