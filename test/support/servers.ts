/**
 * The servers that a whole test run shares, for tests that only use them. `npm test` names them in
 * the environment; a test file that runs alone gets its own, gone when the file ends. Tests that
 * kill or restart a server start one with tools/servers.ts instead.
 *
 * Shared means shared: every test takes names of its own (uniqueName) for topics, prefixes, keys.
 */
import { randomBytes } from 'node:crypto';
import { startKafka, startRedis, startS3, type TestServer } from '../../tools/servers.ts';

/** Bucket and where it is; credentials are in the environment, where the AWS default chain looks. */
export interface TestS3 {
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
}

const started = new Map<string, Promise<TestServer>>();

async function variable(name: string, start: () => Promise<TestServer>): Promise<string> {
  const given = process.env[name];
  if (given !== undefined) return given;
  let server = started.get(name);
  if (server === undefined) {
    server = start();
    started.set(name, server);
  }
  Object.assign(process.env, (await server).env);
  return process.env[name] ?? '';
}

/** @returns `host:port` of a Kafka broker that creates no topics by itself */
export function sharedKafka(): Promise<string> {
  return variable('TIDEMARK_TEST_KAFKA', startKafka);
}

/** @returns a `redis://` URL */
export function sharedRedis(): Promise<string> {
  return variable('TIDEMARK_TEST_REDIS', startRedis);
}

/** @returns a bucket to use below a prefix of one's own */
export async function sharedS3(): Promise<TestS3> {
  const endpoint = await variable('TIDEMARK_TEST_S3_ENDPOINT', startS3);
  return {
    endpoint,
    bucket: process.env['TIDEMARK_TEST_S3_BUCKET'] ?? '',
    region: process.env['AWS_REGION'] ?? '',
  };
}

/** A name that no other test uses: `label` and random characters, fit for topics, keys and files. */
export function uniqueName(label: string): string {
  return `${label}-${randomBytes(6).toString('hex')}`;
}
