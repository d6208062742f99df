/**
 * A Delta table at one version as a SQL expression over its Parquet files. Pure.
 *
 * Invariants:
 * V1 a view reads exactly the listed files: partition columns come from the log, never from paths;
 * V2 a view has exactly the schema's columns, in order and of the declared types; a column that a
 *    file lacks is null (PROTOCOL.md, "Schema in files").
 */
import type { DataType } from '../../pipeline/types.ts';
import type { QueriedTable } from './lake-query.ts';

/** DuckDB's name of a Delta type. */
function sqlType(type: DataType): string {
  switch (type.kind) {
    case 'primitive':
      return {
        string: 'VARCHAR',
        long: 'BIGINT',
        integer: 'INTEGER',
        short: 'SMALLINT',
        byte: 'TINYINT',
        float: 'FLOAT',
        double: 'DOUBLE',
        boolean: 'BOOLEAN',
        binary: 'BLOB',
        date: 'DATE',
        timestamp: 'TIMESTAMPTZ',
      }[type.name];
    case 'decimal':
      return `DECIMAL(${type.precision},${type.scale})`;
    case 'array':
      return `${sqlType(type.element)}[]`;
    case 'map':
      return `MAP(${sqlType(type.key)}, ${sqlType(type.value)})`;
    case 'struct':
      return `STRUCT(${type.fields.map((f) => `${sqlName(f.name)} ${sqlType(f.type)}`).join(', ')})`;
  }
}

/** A quoted identifier. */
export function sqlName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A quoted text. */
export function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A path as a pattern that matches only itself. */
export function literalPath(path: string): string {
  return path.replace(/[*?[]/g, '[$&]');
}

/**
 * The SELECT that stands for the table.
 * @param pathOf local path of a file of the table
 */
export function tableViewSql(table: QueriedTable, pathOf: (filePath: string) => string): string {
  const partitions = table.schema.fields.filter((f) => table.partitionColumns.includes(f.name));
  const hidden = partitions.map((f) => sqlText(f.name.toLowerCase())).join(', ');
  const own =
    partitions.length === 0 ? '*' : `COLUMNS(lambda name: lower(name) NOT IN (${hidden}))`;
  const byValues = Map.groupBy(table.files, (file) =>
    JSON.stringify(partitions.map((f) => file.partitionValues[f.name] ?? null)),
  );
  const parts = [...byValues].map(([key, files]) => {
    const values = JSON.parse(key) as (string | null)[];
    const constants = partitions.map((f, i) => {
      const value = values[i] ?? null;
      const literal = value === null ? 'NULL' : sqlText(value);
      return `, CAST(${literal} AS ${sqlType(f.type)}) AS ${sqlName(f.name)}`;
    });
    const paths = files.map((file) => sqlText(literalPath(pathOf(file.path)))).join(', ');
    return (
      `SELECT ${own}${constants.join('')} FROM read_parquet([${paths}], ` +
      'union_by_name = true, hive_partitioning = false)'
    );
  });
  const typed = table.schema.fields.map((f) => `NULL::${sqlType(f.type)} AS ${sqlName(f.name)}`);
  const cast = table.schema.fields.map(
    (f) => `CAST(${sqlName(f.name)} AS ${sqlType(f.type)}) AS ${sqlName(f.name)}`,
  );
  // The empty first branch gives every column a type, also those that no file has (V2).
  const branches = [`SELECT ${typed.join(', ')} WHERE false`, ...parts];
  return `SELECT ${cast.join(', ')} FROM (${branches.join(' UNION ALL BY NAME ')})`;
}
