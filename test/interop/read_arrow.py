"""Runs queries over Delta tables with three readers and writes their answers as JSON to the file named.

Standard input: {"tables": {name: {"uri", "options", "version", "files"}}, "queries": [[table, sql]]};
a query calls its table `t` and writes an instant as TS'2026-11-22T10:00:00Z'.
Readers: `datafusion`, delta-rs with its own SQL engine, which skips files by their statistics;
`dataset`, DuckDB over delta-rs's Arrow dataset, which skips by them in another way; `parquet`, DuckDB
over the plain files that delta-rs lists, with nothing skipped.
"""

import json
import re
import sys

import duckdb
import pyarrow
from deltalake import DeltaTable, QueryBuilder

from rows import normal


def instants(sql, literal):
    return re.sub(r"TS'([^']*)'", literal, sql)


def open_table(spec):
    return DeltaTable(
        spec["uri"], version=spec.get("version"), storage_options=spec.get("options") or None
    )


def datafusion(table, sql):
    answer = QueryBuilder().register("t", table).execute(instants(sql, r"TIMESTAMP '\1'"))
    return pyarrow.table(answer.read_all()).to_pylist()


def duckdb_rows(connection, sql):
    answer = connection.sql(instants(sql, r"TIMESTAMPTZ '\1'"))
    return answer.to_arrow_table().to_pylist()


def dataset(table, sql):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("t", table.to_pyarrow_dataset())
    return duckdb_rows(connection, sql)


def parquet(table, spec, sql):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    columns = [field.name for field in table.schema().fields]
    dates = table.metadata().partition_columns
    actions = pyarrow.table(table.get_add_actions(flatten=True)).to_pylist()
    selects = [
        "SELECT *"
        + "".join(f", DATE '{add[f'partition.{date}']}' AS \"{date}\"" for date in dates)
        + f" FROM read_parquet('{spec['files']}/{add['path']}')"
        for add in actions
    ]
    names = ", ".join(f'"{name}"' for name in columns)
    rows = " UNION ALL BY NAME ".join(selects)
    connection.execute(f"CREATE VIEW t AS SELECT {names} FROM ({rows})")
    return duckdb_rows(connection, sql)


def main():
    request = json.load(sys.stdin)
    specs = request["tables"]
    tables = {name: open_table(spec) for name, spec in specs.items()}
    answers = {"datafusion": [], "dataset": [], "parquet": []}
    for name, sql in request["queries"]:
        table = tables[name]
        answers["datafusion"].append(normal(datafusion(table, sql)))
        answers["dataset"].append(normal(dataset(table, sql)))
        answers["parquet"].append(normal(parquet(table, specs[name], sql)))
    described = {
        name: {
            "version": table.version(),
            "files": len(table.file_uris()),
            "pruned": {
                date: len(table.file_uris(file_pruning_predicate=[("_event_date", "=", date)]))
                for date in request.get("dates", [])
                if "_event_date" in table.metadata().partition_columns
            },
            "minReader": table.protocol().min_reader_version,
            "minWriter": table.protocol().min_writer_version,
        }
        for name, table in tables.items()
    }
    with open(sys.argv[1], "w") as file:
        json.dump({"answers": answers, "tables": described}, file)


main()
