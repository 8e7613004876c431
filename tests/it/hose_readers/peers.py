"""What khose wrote, read by DuckDB, pyarrow and polars, and compared with what was put in.

    peers.py input COUNT               records of every type on standard output, one JSON object a line
    peers.py parquet DIR INPUT [compat|inferred]
    peers.py arrow DIR INPUT
    peers.py csv DIR INPUT
    peers.py ndjson DIR INPUT
    peers.py lake DIR INPUT             partitions k=..., and columns that came later
"""

import base64
import csv
import datetime
import decimal
import glob
import io
import json
import random
import struct
import sys

UTC = datetime.timezone.utc
MICROSECOND = datetime.timedelta(microseconds=1)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)


def make(count):
    """Rows with the ends of every type, nulls in two ways, and nothing that two readers must see differently."""
    rng = random.Random(20261125)
    words = ["", "a", "käse", "日本", 'with "quotes"', "comma, and\ttab", "line\nbreak", "\\", "NULL", "x" * 300]
    integers = [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, 10**15]
    floats = [0.5, -0.25, 1e308, 5e-324, 1.5e-7, 123456789.125, -1e-10]
    for n in range(count):
        at = EPOCH + datetime.timedelta(microseconds=rng.randrange(-(10**15), 4 * 10**15))
        zone = datetime.timezone(datetime.timedelta(minutes=rng.choice([0, 0, 330, -480])))
        row = {
            "id": n,
            "big": rng.choice(integers) if n % 3 else rng.randrange(-(2**63), 2**63),
            "small": rng.randrange(-(2**31), 2**31),
            "d": rng.choice(floats) if n % 2 else rng.random() * 10 ** rng.randrange(-5, 9),
            "f": rng.randrange(-1000, 1000) / 8,
            "b": rng.random() < 0.5,
            "s": rng.choice(words) if n % 4 else "word %d" % rng.randrange(10**6),
            "ts": at.astimezone(zone).isoformat(timespec="microseconds"),
            "wall": at.replace(tzinfo=None).isoformat(timespec="microseconds"),
            "day": at.date().isoformat(),
            "price": "%d.%02d" % (rng.randrange(-(10**9), 10**9), rng.randrange(100)),
            "fine": "0.%010d" % rng.randrange(10**10),
            "bin": base64.b64encode(rng.randbytes(rng.randrange(9))).decode(),
            "n": {"a": rng.randrange(100), "t": rng.choice(words), "deep": {"l": [1, None, n % 7]}},
            "l": [rng.randrange(10) for _ in range(rng.randrange(4))],
            "ls": [{"x": x, "y": rng.choice([None, "y%d" % x])} for x in range(rng.randrange(3))],
            "m": {"k%d" % k: k * n % 11 for k in range(rng.randrange(3))},
        }
        for name in list(row)[1:]:
            # Null in two ways.
            if rng.random() < 0.04:
                row[name] = None
            elif rng.random() < 0.04:
                del row[name]
        yield row


def instant(text):
    return (datetime.datetime.fromisoformat(text).astimezone(UTC) - EPOCH) // MICROSECOND


def expected(row, inferred=False):
    """What every reader is to find."""
    found = {}
    for name, kind in KINDS.items():
        value = row.get(name)
        if value is not None:
            if inferred and name == "m":
                # No column of its own type tells that its keys are data.
                value = {key: value.get(key) for key in ("k0", "k1")}
            elif kind == "instant":
                value = instant(value)
            elif kind == "float" and not inferred:
                value = struct.unpack("f", struct.pack("f", value))[0]
            elif kind.startswith("decimal") and not inferred:
                value = str(decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-int(kind[7:]))))
        found[name] = value
    if found["n"] is not None:
        found["n"] = {"a": found["n"]["a"], "t": found["n"]["t"], "deep": {"l": found["n"]["deep"]["l"]}}
    return found


KINDS = {
    "id": "", "big": "", "small": "", "d": "", "f": "float", "b": "", "s": "", "ts": "instant", "wall": "", "day": "",
    "price": "decimal2", "fine": "decimal10", "bin": "", "n": "", "l": "", "ls": "", "m": "",
}


def plain(value, name):
    """A value of Arrow's as JSON has it."""
    if isinstance(value, datetime.datetime):
        if name == "ts":
            return (value.replace(tzinfo=value.tzinfo or UTC) - EPOCH) // MICROSECOND
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if name == "m" and isinstance(value, list):
        return {pair[0] if isinstance(pair, tuple) else pair["key"]: pair[1] if isinstance(pair, tuple) else pair["value"] for pair in value}
    if isinstance(value, list):
        return [plain(item, None) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, None) for key, item in value.items()}
    return value


def rows_of(table):
    return [{name: plain(value, name) for name, value in row.items()} for row in table.to_pylist()]


def compare(reader, found, wanted):
    found, wanted = (sorted(rows, key=lambda row: row["id"]) for rows in (found, wanted))
    if len(found) != len(wanted):
        sys.exit("%s: %d rows, and not %d" % (reader, len(found), len(wanted)))
    for one, other in zip(found, wanted):
        if repr(sorted(one.items())) != repr(sorted(other.items())):
            different = [name for name in other if repr(one.get(name)) != repr(other[name])] + [k for k in one if k not in other]
            name = different[0]
            sys.exit("%s: row %d: %s: %r, and not %r" % (reader, other["id"], name, one.get(name), other.get(name)))
    print("%s: %d rows" % (reader, len(found)))


def types(reader, found, wanted):
    for name, kind in wanted.items():
        if found.get(name) != kind:
            sys.exit("%s: column %s is %s, and not %s" % (reader, name, found.get(name), kind))


def parquet(files, rows, mode):
    import duckdb
    import polars
    import pyarrow.dataset
    import pyarrow.parquet

    inferred, compat = mode == "inferred", mode == "compat"
    wanted = [expected(row, inferred) for row in rows]
    table = pyarrow.dataset.dataset(files, format="parquet").to_table()
    compare("pyarrow", rows_of(table), wanted)
    if not inferred:
        types("pyarrow", {field.name: str(field.type) for field in table.schema}, {
            "id": "int64", "big": "int64", "small": "int32", "d": "double", "f": "float", "b": "bool", "s": "string",
            "day": "date32[day]", "price": "decimal128(12, 2)", "fine": "decimal128(38, 10)", "bin": "binary",
            **({} if compat else {"ts": "timestamp[us, tz=UTC]", "wall": "timestamp[us]"}),
        })
    for file in files:
        one = pyarrow.parquet.ParquetFile(file)
        if b"kpipe.shards" not in one.metadata.metadata:
            sys.exit("%s: it does not say what is in it" % file)

    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    relation = con.read_parquet(files)
    if not inferred:
        described = dict(zip(relation.columns, map(str, relation.types)))
        types("DuckDB", described, {
            "id": "BIGINT", "big": "BIGINT", "small": "INTEGER", "d": "DOUBLE", "f": "FLOAT", "b": "BOOLEAN",
            "s": "VARCHAR", "day": "DATE", "price": "DECIMAL(12,2)", "fine": "DECIMAL(38,10)", "bin": "BLOB",
            "l": "BIGINT[]", "m": "MAP(VARCHAR, BIGINT)",
            **({} if compat else {"ts": "TIMESTAMP WITH TIME ZONE", "wall": "TIMESTAMP"}),
        })
    compare("DuckDB", rows_of(relation.to_arrow_table()), wanted)
    # What it prunes by must be true.
    for n in range(0, len(rows), max(1, len(rows) // 20)):
        count = con.execute("SELECT count(*) FROM read_parquet($1) WHERE id = $2", [files, n]).fetchone()[0]
        if count != 1:
            sys.exit("DuckDB: id %d is found %d times" % (n, count))

    frame = polars.read_parquet(files)
    if not inferred:
        types("polars", {name: str(kind) for name, kind in frame.schema.items()}, {
            "id": "Int64", "big": "Int64", "small": "Int32", "d": "Float64", "f": "Float32", "b": "Boolean",
            "s": "String", "day": "Date", "l": "List(Int64)", "bin": "Binary",
            **({} if compat else {"ts": "Datetime(time_unit='us', time_zone='UTC')"}),
        })
    compare("polars", rows_of(frame.to_arrow()), wanted)


def arrow(files, rows):
    import polars
    import pyarrow

    wanted = [expected(row) for row in rows]
    tables = [pyarrow.ipc.open_file(file).read_all() for file in files]
    compare("pyarrow", rows_of(pyarrow.concat_tables(tables)), wanted)
    frame = polars.concat([polars.read_ipc(file) for file in files])
    compare("polars", rows_of(frame.to_arrow()), wanted)


FLAT = ["id", "big", "small", "b", "s", "day", "price"]


def csv_files(files, rows):
    import duckdb
    import polars

    wanted = []
    for row in rows:
        want = expected(row)
        # Nothing and an empty text are one in CSV.
        wanted.append({name: None if want[name] == "" else want[name] for name in FLAT})
    found = []
    for file in files:
        with io.open(file, newline="") as opened:
            for row in csv.DictReader(opened):
                one = {name: None if row[name] == "" else row[name] for name in FLAT}
                for name in ("id", "big", "small"):
                    one[name] = None if one[name] is None else int(one[name])
                one["b"] = None if one["b"] is None else one["b"] == "true"
                found.append(one)
    compare("Python's csv", found, wanted)
    kinds = {"id": "BIGINT", "big": "BIGINT", "small": "INTEGER", "b": "BOOLEAN", "s": "VARCHAR", "day": "DATE", "price": "DECIMAL(12,2)"}
    con = duckdb.connect()
    relation = con.sql("SELECT %s FROM read_csv(%r, header = true, types = %r)" % (", ".join(FLAT), files, kinds))
    found = [{n: None if v == "" else v for n, v in row.items()} for row in rows_of(relation.to_arrow_table())]
    compare("DuckDB", found, wanted)
    overrides = {"big": polars.Int64, "small": polars.Int32, "s": polars.String, "day": polars.Date, "price": polars.String}
    frame = polars.concat([polars.read_csv(file, schema_overrides=overrides, infer_schema_length=1000).select(FLAT) for file in files])
    found = [{n: None if v == "" else v for n, v in row.items()} for row in rows_of(frame.to_arrow())]
    compare("polars", found, wanted)


def ndjson(files, rows):
    import duckdb
    import polars

    names = ["id", "big", "b", "s", "l"]
    wanted = [{name: row.get(name) for name in names} for row in rows]
    con = duckdb.connect()
    kinds = {"id": "BIGINT", "big": "BIGINT", "b": "BOOLEAN", "s": "VARCHAR", "l": "BIGINT[]"}
    relation = con.sql("SELECT * FROM read_ndjson(%r, columns = %r)" % (files, kinds))
    compare("DuckDB", rows_of(relation.to_arrow_table()), wanted)
    schema = {"id": polars.Int64, "big": polars.Int64, "b": polars.Boolean, "s": polars.String, "l": polars.List(polars.Int64)}
    frames = [polars.scan_ndjson(file, schema_overrides=schema, infer_schema_length=None).select(names).collect() for file in files]
    compare("polars", rows_of(polars.concat(frames).to_arrow()), wanted)


def lake(place, rows):
    """The place as it is, its ledger and failed records beside the data, as a table of partitions."""
    import duckdb
    import polars
    import pyarrow.dataset

    names = ["id", "k", "later"]
    wanted = [{name: row.get(name) for name in names} for row in rows]
    fields = [("id", pyarrow.int64()), ("k", pyarrow.string()), ("later", pyarrow.float64())]
    partitioning = pyarrow.dataset.partitioning(pyarrow.schema(fields[1:2]), flavor="hive")
    dataset = pyarrow.dataset.dataset(place, format="parquet", partitioning=partitioning, schema=pyarrow.schema(fields))
    compare("pyarrow", rows_of(dataset.to_table()), wanted)
    con = duckdb.connect()
    relation = con.sql(
        "SELECT id, k, later FROM read_parquet('%s/**/*.parquet', hive_partitioning = true, "
        "hive_types = {'k': VARCHAR}, union_by_name = true)" % place
    )
    compare("DuckDB", rows_of(relation.to_arrow_table()), wanted)
    schema = {"id": polars.Int64, "k": polars.String, "later": polars.Float64}
    scan = polars.scan_parquet(
        place + "/k=*/*.parquet", hive_partitioning=True, hive_schema={"k": polars.String}, schema=schema,
        missing_columns="insert", extra_columns="ignore",
    )
    compare("polars", rows_of(scan.select(names).collect().to_arrow()), wanted)


def main():
    if sys.argv[1] == "input":
        for row in make(int(sys.argv[2])):
            print(json.dumps(row, ensure_ascii=False))
        return
    form, place, source = sys.argv[1:4]
    files = sorted(file for file in glob.glob(place + "/**/*.*", recursive=True) if "/_" not in file[len(place):])
    if not files:
        sys.exit("no files in %s" % place)
    with io.open(source, encoding="utf-8") as opened:
        rows = [json.loads(line) for line in opened]
    if form == "lake":
        lake(place, rows)
    elif form == "parquet":
        parquet(files, rows, sys.argv[4] if len(sys.argv) > 4 else "")
    else:
        {"arrow": arrow, "csv": csv_files, "ndjson": ndjson}[form](files, rows)


main()
