/**
 * Real Kafka, Redis and S3 servers for tests: each on a free loopback port with its data in a folder
 * below the temporary one, to be killed, restarted and stopped at will.
 *
 * S1 Only what this process started is ever signalled.
 * S2 Nothing outlives this process: servers are stopped on exit and on SIGINT, SIGTERM, SIGHUP, and
 *    on Linux the kernel kills them when this process is killed (setpriv --pdeathsig).
 * S3 kill() and restart() keep address and data; stop() removes the data unless the caller named it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setUp } from './setup.ts';
import { findCommand, runCommand } from './tool-install.ts';

/** A server that was started here. */
export interface TestServer {
  readonly name: 'kafka' | 'redis' | 's3';
  /** `127.0.0.1:port`; the same for the server's whole life. */
  readonly address: string;
  /** The variables under which tests find it (tools/test-environment.ts). */
  readonly env: Readonly<Record<string, string>>;
  /** Data and `server.log`. */
  readonly folder: string;
  /** undefined while it does not run. */
  readonly pid: number | undefined;
  /**
   * Sends a signal, SIGKILL by default; resolves when the process is gone, or at once for signals
   * that do not end it (SIGSTOP, SIGCONT).
   */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port and data (kills it first); resolves when it serves. */
  restart(): Promise<void>;
  /** Ends it for good and removes its folder. */
  stop(): Promise<void>;
}

interface ServerSpec {
  readonly name: TestServer['name'];
  readonly port: number;
  readonly env: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly command: readonly string[];
  readonly processEnv?: Readonly<Record<string, string>>;
  readonly isReady: (log: string) => Promise<boolean>;
  readonly readyWithinMs: number;
}

const live = new Set<ManagedServer>();
let hooked = false;

/** S2: whatever ends this process in an orderly way ends the servers first. */
function hookExit(): void {
  if (hooked) return;
  hooked = true;
  process.on('exit', () => {
    for (const server of live) server.abandon();
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      for (const server of live) server.abandon();
      process.kill(process.pid, signal);
    });
  }
}

const setpriv = process.platform === 'linux' ? findCommand('setpriv') : undefined;

class ManagedServer implements TestServer {
  readonly name: TestServer['name'];
  readonly address: string;
  readonly env: Readonly<Record<string, string>>;
  readonly folder: string;
  readonly #spec: ServerSpec;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();

  constructor(spec: ServerSpec) {
    this.name = spec.name;
    this.address = `127.0.0.1:${spec.port}`;
    this.env = spec.env;
    this.folder = spec.folder;
    this.#spec = spec;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    hookExit();
    live.add(this);
    const logPath = join(this.folder, 'server.log');
    appendFileSync(logPath, '');
    const logStart = readFileSync(logPath).length;
    const log = openSync(logPath, 'a');
    const [command, ...args] =
      setpriv === undefined
        ? this.#spec.command
        : [setpriv, '--pdeathsig', 'KILL', ...this.#spec.command];
    const child = spawn(command ?? '', args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#spec.processEnv },
    });
    closeSync(log);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      const gone = (): void => {
        if (this.#child === child) this.#child = undefined;
        resolve();
      };
      child.once('exit', gone);
      child.once('error', gone);
    });
    const logTail = (): string => readFileSync(logPath).subarray(logStart).toString();
    const deadline = performance.now() + this.#spec.readyWithinMs;
    do {
      // Time to find its port taken: whoever has that may answer instead.
      await pause(50);
      if (this.#child !== child) throw new Error(`${this.name} ended at start:\n${logTail()}`);
      if (performance.now() > deadline) {
        await this.kill();
        throw new Error(`${this.name} was not ready in time:\n${logTail()}`);
      }
    } while (!(await this.#spec.isReady(logTail())));
    // A test file that ends must not wait for servers that nobody stopped; the exit hook does that.
    child.unref();
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child?.kill(signal);
    if (signal === 'SIGSTOP' || signal === 'SIGCONT') return;
    await this.#gone();
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  async stop(): Promise<void> {
    // A stopped process takes no SIGTERM, and a slow one is not waited for: the data goes anyway.
    this.#child?.kill('SIGCONT');
    this.#child?.kill('SIGTERM');
    const slow = setTimeout(() => this.#child?.kill('SIGKILL'), 3000);
    await this.#gone();
    clearTimeout(slow);
    this.abandon();
  }

  #gone(): Promise<void> {
    this.#child?.ref();
    return this.#exited;
  }

  /** Synchronous end, for exit hooks. */
  abandon(): void {
    live.delete(this);
    this.#child?.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * A loopback port that nobody listens on. Below the range the kernel hands to outgoing connections:
 * a client that keeps dialling a dead port in that range can connect to itself and so take the port.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const isFree = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
  throw new Error('no free loopback port between 20000 and 32000');
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    const answer = (isOpen: boolean) => (): void => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.once('connect', answer(true));
    socket.once('error', answer(false));
  });
}

function newFolder(name: string): string {
  return mkdtempSync(join(tmpdir(), `tidemark-${name}-`));
}

/** A port may be taken between the look and the start; a few tries settle it. */
async function startFresh(makeSpec: (port: number) => Promise<ServerSpec>): Promise<TestServer> {
  for (let attempt = 1; ; attempt += 1) {
    const server = new ManagedServer(await makeSpec(await freePort()));
    try {
      await server.start();
      return server;
    } catch (error) {
      await server.stop();
      if (attempt === 3) throw error;
    }
  }
}

/**
 * Redis without persistence and without eviction: what is killed comes back empty.
 * @param options.args further redis-server arguments, such as `['--appendonly', 'yes']`
 */
export async function startRedis(
  options: { readonly args?: readonly string[] } = {},
): Promise<TestServer> {
  const { redis } = await setUp(['redis']);
  return startFresh(async (port) => {
    const folder = newFolder('redis');
    const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder];
    const hints = ['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'];
    return {
      name: 'redis',
      port,
      env: { TIDEMARK_TEST_REDIS: `redis://127.0.0.1:${port}` },
      folder,
      command: [redis, ...settings, ...hints, ...(options.args ?? [])],
      isReady: async (log) => log.includes('Ready to accept connections') && accepts(port),
      readyWithinMs: 10_000,
    };
  });
}

const S3_ACCESS_KEY = 'tidemark';
const S3_SECRET_KEY = 'tidemark-secret';
const S3_BUCKET = 'tidemark-test';

/** An S3 server over a folder, with one bucket. Needs a file system with extended attributes. */
export async function startS3(): Promise<TestServer> {
  const { s3 } = await setUp(['s3']);
  return startFresh(async (port) => {
    const folder = newFolder('s3');
    const data = join(folder, 'buckets');
    // A folder below the root is a bucket, owned by the root account.
    mkdirSync(join(data, S3_BUCKET), { recursive: true });
    return {
      name: 's3',
      port,
      env: {
        TIDEMARK_TEST_S3_ENDPOINT: `http://127.0.0.1:${port}`,
        TIDEMARK_TEST_S3_BUCKET: S3_BUCKET,
        AWS_ACCESS_KEY_ID: S3_ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY: S3_SECRET_KEY,
        AWS_REGION: 'us-east-1',
      },
      folder,
      command: [s3, '--port', `127.0.0.1:${port}`, '--quiet', '--keep-alive', 'posix', data],
      processEnv: { ROOT_ACCESS_KEY_ID: S3_ACCESS_KEY, ROOT_SECRET_ACCESS_KEY: S3_SECRET_KEY },
      isReady: () => accepts(port),
      readyWithinMs: 10_000,
    };
  });
}

/**
 * One KRaft node, broker and controller. Topics are not created by themselves, records are never too
 * old to keep, and a topic may take records of up to 100 MiB by its own `max.message.bytes`.
 * @param options.heap of the JVM, such as `512m`
 * @param options.jvmFlags instead of those that make it start quickly with little CPU; for benchmarks
 * @param options.dataDir keeps the log there, over several servers; removed by nobody
 * @param options.config further or other broker settings
 */
export async function startKafka(
  options: {
    readonly heap?: string;
    readonly jvmFlags?: readonly string[];
    readonly dataDir?: string;
    readonly config?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestServer> {
  const { kafka: jars } = await setUp(['kafka']);
  const heap = options.heap ?? '512m';
  return startFresh(async (port) => {
    const controllerPort = await freePort();
    const folder = newFolder('kafka');
    const data = options.dataDir ?? join(folder, 'data');
    const configPath = join(folder, 'server.properties');
    const config = { ...brokerConfig({ port, controllerPort, data }), ...options.config };
    writeFileSync(
      configPath,
      Object.entries(config)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(''),
    );
    const java = ['-cp', join(jars, '*'), '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn'];
    if (!existsSync(join(data, 'meta.properties'))) {
      const format = ['kafka.tools.StorageTool', 'format', '--cluster-id', CLUSTER_ID];
      await runCommand('java', [...QUICK_START_FLAGS, ...java, ...format, '--config', configPath]);
    }
    return {
      name: 'kafka',
      port,
      env: { TIDEMARK_TEST_KAFKA: `127.0.0.1:${port}` },
      folder,
      command: [
        'java',
        `-Xmx${heap}`,
        ...(options.jvmFlags ?? QUICK_START_FLAGS),
        '-Djava.awt.headless=true',
        '-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info',
        ...java,
        'kafka.Kafka',
        configPath,
      ],
      isReady: async (log) => log.includes('Kafka Server started') && accepts(port),
      readyWithinMs: 90_000,
    };
  });
}

const QUICK_START_FLAGS = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData'];

/** Any valid id will do: the node is a cluster of its own. */
const CLUSTER_ID = 'dGlkZW1hcmstdGVzdC0wMQ';

function brokerConfig(at: {
  readonly port: number;
  readonly controllerPort: number;
  readonly data: string;
}): Readonly<Record<string, string>> {
  return {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@127.0.0.1:${at.controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${at.port},CONTROLLER://127.0.0.1:${at.controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${at.port}`,
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': at.data,
    'auto.create.topics.enable': 'false',
    'offsets.topic.replication.factor': '1',
    'offsets.topic.num.partitions': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'transaction.state.log.num.partitions': '1',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    'group.initial.rebalance.delay.ms': '0',
    // A killed broker may register again only when its old session has run out (9 s by default).
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    // Retention goes by the record's timestamp, and tests write records of any year.
    'log.retention.ms': '-1',
    'log.cleaner.dedupe.buffer.size': '8388608',
    'log.cleaner.backoff.ms': '1000',
    'replica.fetch.max.bytes': '104857600',
    'num.network.threads': '2',
    'num.io.threads': '4',
  };
}
