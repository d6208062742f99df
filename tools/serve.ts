/**
 * Starts test servers and keeps them until Ctrl-C: `node tools/serve.ts [kafka redis s3]`. Prints
 * `export` lines for another shell, so that test files can be run there again and again.
 */
import { startKafka, startRedis, startS3, type TestServer } from './servers.ts';

const STARTS: Readonly<Record<TestServer['name'], () => Promise<TestServer>>> = {
  kafka: () => startKafka({ heap: '1g' }),
  redis: startRedis,
  s3: startS3,
};

const named = process.argv.slice(2);
const chosen = Object.entries(STARTS).filter(
  ([name]) => named.length === 0 || named.includes(name),
);
const servers = await Promise.all(chosen.map(([, start]) => start()));
for (const server of servers) {
  for (const [name, value] of Object.entries(server.env)) console.log(`export ${name}=${value}`);
}
console.error('servers run until this is interrupted');
// The servers themselves do not keep this process alive.
setInterval(() => undefined, 60_000);
