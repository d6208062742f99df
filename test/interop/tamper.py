"""Changes a Delta table as another program would, with delta-rs.

Arguments: the table's folder, then `append` (its first row once more) or `delete` and a predicate.
"""

import sys

from deltalake import DeltaTable, write_deltalake


def main():
    uri, action, *rest = sys.argv[1:]
    table = DeltaTable(uri)
    if action == "append":
        write_deltalake(uri, table.to_pyarrow_table().slice(0, 1), mode="append")
    elif action == "delete":
        table.delete(rest[0])
    else:
        raise ValueError(action)


main()
