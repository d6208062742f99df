/**
 * Rows as an aligned table of text. Pure.
 */

export interface TextColumn {
  readonly title: string;
  /** Numbers stand to the right. */
  readonly align?: 'left' | 'right';
}

/** Cells wider than this are cut, so that one value cannot spoil the table. */
const CELL_WIDTH_MAX = 80;

/**
 * A header, a rule and one line per row; columns are two spaces apart.
 * @param bold marks up the header
 */
export function textTable(
  columns: readonly TextColumn[],
  rows: readonly (readonly string[])[],
  bold: (text: string) => string = (text) => text,
): string {
  const shown = rows.map((row) => row.map(cut));
  const widths = columns.map((column, i) =>
    shown.reduce((width, row) => Math.max(width, widthOf(row[i] ?? '')), widthOf(column.title)),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map((column, i) => {
        const cell = cells[i] ?? '';
        const space = ' '.repeat(widths[i]! - widthOf(cell));
        return column.align === 'right' ? space + cell : cell + space;
      })
      .join('  ')
      .trimEnd();
  return [
    bold(line(columns.map((c) => c.title))),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...shown.map(line),
  ].join('\n');
}

function cut(cell: string): string {
  // Control characters of a value must not reach the terminal.
  // oxlint-disable-next-line no-control-regex
  const plain = cell.replace(/[\u0000-\u001f\u007f-\u009f]/g, '\u00b7');
  return plain.length > CELL_WIDTH_MAX ? `${plain.slice(0, CELL_WIDTH_MAX - 1)}\u2026` : plain;
}

/** Code points, which is what most terminals show one cell for. */
function widthOf(text: string): number {
  let width = 0;
  for (const _ of text) width++;
  return width;
}

/** `12,345,678`; the locale of the machine must not matter. */
export function groupDigits(value: number | bigint): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** `1.2 MiB`. */
export function byteText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
