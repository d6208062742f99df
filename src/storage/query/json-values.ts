/**
 * DuckDB's values as JSON keeps them (lake-query.ts says how), whatever the machine's time zone.
 */
import {
  DuckDBBlobValue,
  DuckDBTimestampTZValue,
  DuckDBTimestampValue,
  type DuckDBType,
  DuckDBTypeId,
  type DuckDBValue,
  type DuckDBValueConverter,
  type Json,
  JsonDuckDBValueConverter,
} from '@duckdb/node-api';
import { dateText } from '../../pipeline/progress.ts';

const DAY_MICROS = 86_400_000_000n;

/** Converter for `yieldConvertedRows`. */
export const toJsonValue: DuckDBValueConverter<Json> = (
  value: DuckDBValue,
  type: DuckDBType,
  converter: DuckDBValueConverter<Json>,
): Json | null => {
  if (value instanceof DuckDBBlobValue) return Buffer.from(value.bytes).toString('base64');
  if (value instanceof DuckDBTimestampTZValue || value instanceof DuckDBTimestampValue) {
    return instantText(value.micros);
  }
  return JsonDuckDBValueConverter(value, type, converter);
};

/** RFC 3339 in UTC; six digits of fraction only when milliseconds do not suffice. */
function instantText(micros: bigint): string {
  if (micros === DuckDBTimestampValue.PosInf.micros) return 'infinity';
  if (micros === DuckDBTimestampValue.NegInf.micros) return '-infinity';
  const ofDay = ((micros % DAY_MICROS) + DAY_MICROS) % DAY_MICROS;
  const days = Number((micros - ofDay) / DAY_MICROS);
  const time = Number(ofDay);
  const pad = (number: number, width: number): string => String(number).padStart(width, '0');
  const seconds = Math.floor(time / 1_000_000);
  const fraction = time % 1_000_000;
  const shown = fraction % 1000 === 0 ? pad(fraction / 1000, 3) : pad(fraction, 6);
  const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((part) => pad(part, 2))
    .join(':');
  return `${dateText(days)}T${clock}.${shown}Z`;
}

const NUMERIC: ReadonlySet<DuckDBTypeId> = new Set([
  DuckDBTypeId.TINYINT,
  DuckDBTypeId.SMALLINT,
  DuckDBTypeId.INTEGER,
  DuckDBTypeId.BIGINT,
  DuckDBTypeId.UTINYINT,
  DuckDBTypeId.USMALLINT,
  DuckDBTypeId.UINTEGER,
  DuckDBTypeId.UBIGINT,
  DuckDBTypeId.HUGEINT,
  DuckDBTypeId.UHUGEINT,
  DuckDBTypeId.FLOAT,
  DuckDBTypeId.DOUBLE,
  DuckDBTypeId.DECIMAL,
]);

/** Whether a column of that type is shown right-aligned. */
export function isNumericType(id: DuckDBTypeId): boolean {
  return NUMERIC.has(id);
}
