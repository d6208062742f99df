/**
 * Durations (`2h`) and sizes (`64MiB`) as a pipeline file writes them. Pure.
 */

/** A year is 365 days: retention is counted in days, not in calendar years. */
const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
  y: 365 * 86_400_000,
};

const SIZE_UNITS_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** A whole or decimal number and a unit. */
export const DURATION_PATTERN = /^\d+(?:\.\d+)?(?:ms|s|m|h|d|w|y)$/;
/** A whole or decimal number and a unit; units of 1000 (`KB`) and of 1024 (`KiB`). */
export const SIZE_PATTERN = /^\d+(?:\.\d+)?(?:B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$/;

function parseQuantity(
  text: string,
  pattern: RegExp,
  units: Readonly<Record<string, number>>,
): number | undefined {
  if (!pattern.test(text)) return undefined;
  const unit = /[A-Za-z]+$/.exec(text)![0];
  const value = Math.round(Number(text.slice(0, -unit.length)) * units[unit]!);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** @returns whole milliseconds, undefined when the text is no duration */
export function parseDurationMs(text: string): number | undefined {
  return parseQuantity(text, DURATION_PATTERN, DURATION_UNITS_MS);
}

/** @returns whole bytes, undefined when the text is no size */
export function parseSizeBytes(text: string): number | undefined {
  return parseQuantity(text, SIZE_PATTERN, SIZE_UNITS_BYTES);
}
