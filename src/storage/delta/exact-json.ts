/**
 * JSON without loss of 64-bit integers. `JSON.parse` alone rounds integers beyond 2^53, and a
 * rounded `txn` version would be a wrong offset. Pure. Source: ECMAScript "JSON.parse source text
 * access" (reviver context, JSON.rawJSON).
 *
 * J1 An integer literal is a number when it is a safe integer, else a bigint; nothing is rounded.
 * J2 A bigint is written as a plain JSON integer.
 */

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

/** The JSON functions that TypeScript's library does not declare yet. */
const sourceJson = JSON as unknown as {
  parse(text: string, reviver: Reviver): unknown;
  rawJSON(text: string): unknown;
};

/** Only a run of 16 digits can be an unsafe integer; all other texts take the fast native path. */
const MAYBE_UNSAFE = /\d{16}/;

const INTEGER = /^-?\d+$/;

/**
 * Parses one JSON text (J1).
 * @throws SyntaxError when `text` is not JSON
 */
export function parseExactJson(text: string): unknown {
  return MAYBE_UNSAFE.test(text) ? sourceJson.parse(text, exactInteger) : JSON.parse(text);
}

/** Serialises a value that may hold bigints at any depth (J2). */
export function stringifyExactJson(value: unknown): string {
  return JSON.stringify(value, rawBigint);
}

function exactInteger(_key: string, value: unknown, context: { readonly source?: string }) {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value;
  const source = context.source;
  return source !== undefined && INTEGER.test(source) ? BigInt(source) : value;
}

function rawBigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? sourceJson.rawJSON(value.toString()) : value;
}
