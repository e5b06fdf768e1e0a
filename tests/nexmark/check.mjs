/*
 * Do DuckDB and Tailrace answer the Nexmark queries alike?
 *
 *     node check.mjs SQL-FOLDER ANSWERS-FOLDER
 *
 * ANSWERS-FOLDER is what tailrace-bench nexmark --answers wrote: events.json, and for each query
 * q.tsv, whose lines are a multiplicity and a row that was added or removed. Every query of
 * SQL-FOLDER is asked of DuckDB over the same events; both answers, as bags of rows, must be equal.
 */
import { DuckDBInstance } from '@duckdb/node-api';
import fs from 'node:fs';
import path from 'node:path';

/* DuckDB's names for two functions of PostgreSQL. */
const MACROS = [
  'CREATE MACRO date_bin(width, t, origin) AS time_bucket(width, t, origin)',
  `CREATE MACRO to_char(t, format) AS strftime(t, CASE format
     WHEN 'YYYY-MM-DD' THEN '%Y-%m-%d' WHEN 'HH24:MI' THEN '%H:%M' END)`,
];

/* Members of each kind of event, by DuckDB's types; times are milliseconds. */
const TABLES = {
  person: ['Person', 'id BIGINT, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, ' +
    'city VARCHAR, state VARCHAR, date_time BIGINT, extra VARCHAR', ['date_time']],
  auction: ['Auction', 'id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, ' +
    'reserve BIGINT, date_time BIGINT, expires BIGINT, seller BIGINT, category BIGINT, ' +
    'extra VARCHAR', ['date_time', 'expires']],
  bid: ['Bid', 'auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, ' +
    'date_time BIGINT, extra VARCHAR', ['date_time']],
};

async function load(db, events) {
  const columns = Object.values(TABLES).map(([kind, members]) => `${kind}: 'STRUCT(${members})'`);
  await db.run(`CREATE TABLE raw AS SELECT * FROM read_json('${events}',
    format = 'newline_delimited', columns = {${columns.join(', ')}})`);
  for (const [table, [kind, , times]] of Object.entries(TABLES)) {
    const replaced = times.map((t) => `make_timestamp(e.${t} * 1000) AS ${t}`).join(', ');
    await db.run(`CREATE TABLE ${table} AS SELECT e.* REPLACE (${replaced})
      FROM (SELECT unnest(${kind}) FROM raw WHERE ${kind} IS NOT NULL) e`);
  }
  await db.run(`CREATE TABLE side_input AS
    SELECT i AS key, 'side_' || i AS value FROM generate_series(0, 9999) AS t(i)`);
  for (const macro of MACROS) {
    await db.run(macro);
  }
}

/* Averages are exact here and doubles there: twelve digits of them count. */
function canonical(value) {
  return /^-?\d+\.\d+$/.test(value) ? String(Number(Number(value).toPrecision(12))) : value;
}

function add(bag, values, multiplicity) {
  const row = values.map(canonical).join('\t');
  const count = (bag.get(row) ?? 0) + multiplicity;
  if (count === 0) {
    bag.delete(row);
  } else {
    bag.set(row, count);
  }
}

async function theirs(db, sql) {
  const bag = new Map();
  const reader = await db.runAndReadAll(`SELECT COLUMNS(*)::VARCHAR FROM (${sql})`);
  for (const row of reader.getRows()) {
    add(bag, row.map((value) => value ?? '\\N'), 1);
  }
  return bag;
}

function ours(file) {
  const bag = new Map();
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    if (line !== '') {
      const [multiplicity, ...values] = line.split('\t');
      add(bag, values, Number(multiplicity));
    }
  }
  return bag;
}

/* What one has and the other has not, at most three rows of it. */
function missing(from, there) {
  const rows = [];
  for (const [row, count] of from) {
    if (there.get(row) !== count && rows.length < 3) {
      rows.push(`${count} x ${row}`);
    }
  }
  return rows;
}

function total(bag) {
  let sum = 0;
  bag.forEach((count) => { sum += count; });
  return sum;
}

async function compare(db, name, sqlFolder, answers) {
  const sql = fs.readFileSync(path.join(sqlFolder, `${name}.sql`), 'utf8');
  const begin = process.hrtime.bigint();
  const expected = await theirs(db, sql);
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  const got = ours(path.join(answers, `${name}.tsv`));
  const lost = missing(expected, got), extra = missing(got, expected);
  const equal = lost.length === 0 && extra.length === 0;
  console.log(`${name}: ${total(got)} rows, DuckDB ${total(expected)} in ${ms.toFixed(0)} ms: ` +
    (equal ? 'equal' : 'DIFFERENT'));
  lost.forEach((row) => console.log(`  only DuckDB: ${row}`));
  extra.forEach((row) => console.log(`  only Tailrace: ${row}`));
  return equal;
}

async function main(sqlFolder, answers) {
  const instance = await DuckDBInstance.create(':memory:');
  const db = await instance.connect();
  await load(db, path.join(answers, 'events.json'));
  const names = fs.readdirSync(sqlFolder).filter((file) => file.endsWith('.sql'))
    .map((file) => path.basename(file, '.sql'))
    .sort((a, b) => Number(a.slice(1)) - Number(b.slice(1)));
  let failed = names.length === 0 ? 1 : 0;
  for (const name of names) {
    failed += await compare(db, name, sqlFolder, answers) ? 0 : 1;
  }
  console.log(`${names.length} queries, ${failed} different`);
  process.exitCode = failed === 0 ? 0 : 1;
}

if (process.argv.length !== 4) {
  console.error('usage: node check.mjs SQL-FOLDER ANSWERS-FOLDER');
  process.exitCode = 2;
} else {
  await main(process.argv[2], process.argv[3]);
}
