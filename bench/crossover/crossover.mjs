/*
 * What DuckDB takes to count the edges of each node, over and over.
 *
 *     node crossover.mjs NODES EDGES ROUNDS
 *
 * Prints one line of JSON: milliseconds of each recomputation, with one thread and with all. That
 * the batch has to be put into the table first is not counted.
 */
import { DuckDBInstance } from '@duckdb/node-api';

const [nodes, edges, rounds] = process.argv.slice(2).map(Number);

async function measure(threads) {
  const instance = await DuckDBInstance.create(':memory:', threads ? { threads } : {});
  const db = await instance.connect();
  await db.run(`CREATE TABLE edges AS
    SELECT CAST(floor(random() * ${nodes}) AS BIGINT) AS source FROM range(${edges})`);
  const times = [];
  for (let i = 0; i <= rounds; i++) {
    const start = process.hrtime.bigint();
    await db.run('CREATE OR REPLACE TABLE degrees AS ' +
      'SELECT source, count(*) AS degree FROM edges GROUP BY source');
    times.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  const counted = await db.runAndReadAll('SELECT CAST(sum(degree) AS BIGINT) FROM degrees');
  if (Number(counted.getRows()[0][0]) !== edges) {
    throw new Error('DuckDB has lost edges');
  }
  return times.slice(1); /* the first one warms up */
}

console.log(JSON.stringify({ one: await measure('1'), all: await measure(null) }));
