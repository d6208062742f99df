/**
 * Numbers, spans and times as people read them. Pure.
 */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });

/** `12,345`; digits beyond 2^53 come as text and stay exact. @param {number | string | null} value */
export function count(value) {
  if (value === null) return '–';
  return typeof value === 'string' ? whole.format(BigInt(value)) : whole.format(value);
}

/** `1.2M`, for places with little room. @param {number | null} value */
export function compact(value) {
  if (value === null) return '–';
  return Math.abs(value) < 10_000 ? whole.format(value) : short.format(value);
}

/** `1.2 MiB` as its two parts. @param {number} bytes @returns {[string, string]} */
export function bytesParts(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1), units[unit]];
}

/** @param {number} bytes */
export function byteText(bytes) {
  return bytesParts(bytes).join(' ');
}

/** `4 s`, `12 min`, `3 h` as its two parts. @param {number} seconds @returns {[string, string]} */
export function spanParts(seconds) {
  if (seconds < 9.95) return [seconds === 0 ? '0' : seconds.toFixed(1), 's'];
  if (seconds < 120) return [seconds.toFixed(0), 's'];
  if (seconds < 7_200) return [(seconds / 60).toFixed(0), 'min'];
  if (seconds < 172_800) return [(seconds / 3_600).toFixed(0), 'h'];
  return [(seconds / 86_400).toFixed(0), 'd'];
}

/** @param {number | null} seconds */
export function span(seconds) {
  return seconds === null ? '–' : spanParts(seconds).join(' ');
}

/** `2026-11-23 04:20:11` of an RFC 3339 text in UTC. @param {string | null} instant */
export function instantText(instant) {
  return instant === null ? '–' : instant.slice(0, 19).replace('T', ' ');
}

/** `04:20:11`. @param {string} instant */
export function clockText(instant) {
  return instant.slice(11, 19);
}

/** `3 partitions`. @param {number} number @param {string} one @param {string} [many] */
export function plural(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}
