/**
 * The compose file's Tidemark services as plain processes: same entry point, arguments, environment
 * and published ports. The image is replaced by this checkout, and the names of services by the
 * addresses of real servers.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { parseDurationMs } from '../../src/config/quantity.ts';
import { startKafka, startRedis, startS3, type TestServer } from '../../tools/servers.ts';
import { findCommand } from '../../tools/tool-install.ts';
import {
  alertRules,
  type ComposeService,
  composeFolder,
  composeServices,
  dashboardExpressions,
  exampleEnvironment,
  metricNamesIn,
  projectDir,
  readProjectFile,
  runsTidemark,
} from '../support/deploy-files.ts';
import { eventually } from '../support/eventually.ts';

const EVENTS = 3_000;
const WITHIN_MS = 100_000;
/** The processes need the processor more than we do. */
const LOOK_EVERY_MS = 250;

const credentials: Readonly<Record<string, string>> = {
  ...exampleEnvironment(),
  // The S3 server's own, since tools/servers.ts chooses them.
  S3_ACCESS_KEY: 'tidemark',
  S3_SECRET_KEY: 'tidemark-secret',
};
const services = composeServices(credentials);

const dockerfile = readProjectFile('deploy/Dockerfile');
const imageEntrypoint = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(dockerfile)![1]!) as string[];
const imageHealthcheck = JSON.parse(
  /^HEALTHCHECK [^[]*\\\n {2}CMD (.*)$/m.exec(dockerfile)![1]!,
) as string[];

/** A service's process. */
interface Running {
  readonly name: string;
  readonly child: ChildProcess;
  readonly output: () => string;
  /** Resolves to the exit code. */
  readonly ended: Promise<number | null>;
}

/** The world that the compose file would make. */
class Machine {
  readonly #servers: Readonly<Record<string, TestServer>>;
  readonly #folder: string;
  readonly #running = new Set<Running>();

  /** @param servers by the compose file's own `service:port` */
  constructor(servers: Readonly<Record<string, TestServer>>, folder: string) {
    this.#servers = servers;
    this.#folder = folder;
  }

  /** Starts what a container of the service would start. */
  start(
    name: string,
    options: {
      readonly command?: readonly string[];
      readonly entrypoint?: readonly string[];
      /** Beyond the service's own. */
      readonly environment?: Readonly<Record<string, string>>;
    } = {},
  ): Running {
    const service = services[name]!;
    assert.ok(runsTidemark(service), name);
    const line = [
      ...(options.entrypoint ?? service.entrypoint ?? imageEntrypoint),
      ...(options.command ?? service.command ?? []),
    ];
    const [init, dashes, node, ...args] = line;
    assert.deepEqual([init, dashes, node], ['/usr/bin/tini', '--', 'node']);
    const setpriv = findCommand('setpriv');
    const [command, ...rest] = [
      ...(setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL']),
      process.execPath,
      ...args.map((arg) => hostPath(arg, service)),
    ];
    const child = spawn(command!, rest, {
      cwd: composeFolder,
      env: { ...this.#environment(service), ...options.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
    }
    const ended = once(child, 'close').then(([code]) => code as number | null);
    const running: Running = { name, child, output: () => output, ended };
    this.#running.add(running);
    void ended.then(() => this.#running.delete(running));
    return running;
  }

  /** Runs a service to its end. @returns what it printed */
  async run(...given: Parameters<Machine['start']>): Promise<string> {
    const running = this.start(...given);
    assert.equal(await running.ended, 0, `${running.name}:\n${running.output()}`);
    return running.output();
  }

  killAll(): void {
    for (const { child } of this.#running) child.kill('SIGKILL');
  }

  #environment(service: ComposeService): Record<string, string> {
    const own = Object.entries(service.environment ?? {}).map(([name, value]) => {
      const mapped = Object.entries(this.#servers).reduce(
        (text, [inside, { address }]) => text.replaceAll(inside, address),
        String(value),
      );
      return [name, mapped];
    });
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: this.#folder,
      TMPDIR: this.#folder,
      NODE_ENV: 'production',
      XDG_CACHE_HOME: this.#folder,
      ...Object.fromEntries(own),
    };
  }
}

/** A path of the container as it is here: below the image's /app, or mounted. */
function hostPath(arg: string, service: ComposeService): string {
  if (arg.startsWith('/app/')) return join(projectDir, arg.slice('/app/'.length));
  for (const volume of service.volumes ?? []) {
    if (typeof volume !== 'string') continue;
    const [source, target] = volume.split(':');
    if (arg === target) return join(composeFolder, source!);
  }
  return arg;
}

/** Loopback ports for those that a service publishes. */
async function publishedPorts(service: ComposeService): Promise<readonly number[]> {
  const [, from, to] = /:(\d+)-(\d+):\d+$/.exec(service.ports![0]!)!;
  const wanted = Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => Number(from) + i);
  return Promise.all(wanted.map(async (port) => ((await isFree(port)) ? port : anyPort())));
}

function isFree(port: number): Promise<boolean> {
  return listen(port).then(
    () => true,
    () => false,
  );
}

const anyPort = (): Promise<number> => listen(0);

/** @returns the port, listened on for a moment */
function listen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(port, '127.0.0.1', () => {
      const bound = (probe.address() as { readonly port: number }).port;
      probe.close(() => resolve(bound));
    });
  });
}

/** The servers of the compose file, by `service:port`. */
async function startServers(t: TestContext): Promise<Readonly<Record<string, TestServer>>> {
  const starts = { 'kafka:9092': startKafka, 'redis:6379': startRedis, 's3:7070': startS3 };
  const started = await Promise.all(
    Object.entries(starts).map(async ([inside, start]) => {
      const server = await start();
      t.after(() => server.stop());
      return [inside, server] as const;
    }),
  );
  return Object.fromEntries(started);
}

interface Status {
  readonly supervisor: { readonly isLeading: boolean };
  readonly hops: readonly { readonly stage: string; readonly behind: number }[];
  readonly tables: readonly { readonly name: string; readonly rows: number | null }[];
}

async function get(port: number, path: string, token?: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(10_000),
  });
}

test('the compose services take events to gold, give the metrics asked for, and drain', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tidemark-compose-'));
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  const servers = await startServers(t);
  const machine = new Machine(servers, folder);
  t.after(() => machine.killAll());
  const startedMs = performance.now();
  const since = (): string => `${((performance.now() - startedMs) / 1000).toFixed(1)} s`;

  const made = await machine.run('prepare');
  assert.match(made, /made topic api-usage-events with 8 partitions and bucket lake/);
  assert.match(await machine.run('prepare'), /topic and bucket are there/);
  t.diagnostic(`prepared after ${since()}`);

  const ports = await publishedPorts(services['supervisor']!);
  assert.equal(ports.length, services['supervisor']!.deploy.replicas);
  const listenOn = (port: number) => ({
    TIDEMARK_HTTP_HOST: '127.0.0.1',
    TIDEMARK_HTTP_PORT: String(port),
  });
  const running = [
    ...ports.map((port) => machine.start('supervisor', { environment: listenOn(port) })),
    machine.start('worker'),
    machine.start('writer'),
  ];
  /** Looks until it holds; a process that ended is the answer to why it never will. */
  const until = (look: () => Promise<void>): Promise<void> =>
    eventually(
      async () => {
        const gone = running.filter(({ child }) => child.exitCode ?? child.signalCode);
        if (gone.length > 0) return gone;
        await pause(LOOK_EVERY_MS);
        await look();
        return [];
      },
      { withinMs: WITHIN_MS },
    ).then((gone) => {
      const said = gone.map(({ name, output }) => `${name} ended:\n${output()}`);
      assert.deepEqual(said, []);
    });
  const viewer = credentials['TIDEMARK_VIEWER_TOKEN']!;

  await until(async () => {
    for (const port of ports) assert.equal((await get(port, '/readyz')).status, 200);
  });
  assert.equal((await get(ports[0]!, '/metrics')).status, 401, 'metrics need a token');
  t.diagnostic(`supervisors ready after ${since()}`);

  const generate = services['generate']!.command!.slice(0, 3);
  const generated = await machine.run('generate', {
    command: [...generate, '--events', String(EVENTS), '--seed', '11', '--json'],
  });
  const truth = JSON.parse(generated) as { readonly lines: number; readonly unique_valid: number };
  assert.equal(truth.lines, EVENTS);

  const statusOf = async (port: number): Promise<Status> =>
    (await (await get(port, '/v1/status', viewer)).json()) as Status;
  await until(async () => {
    const { tables, hops } = await statusOf(ports[0]!);
    const rows = tables.find(({ name }) => name === 'bronze.api_usage_events')?.rows;
    assert.deepEqual([rows, ...hops.map(({ behind }) => behind)], [EVENTS, 0, 0, 0]);
  });
  assert.equal(await countGold(machine), truth.unique_valid);
  t.diagnostic(`all events in gold after ${since()}`);

  const standings = await Promise.all(ports.map(statusOf));
  const leaders = standings.filter(({ supervisor }) => supervisor.isLeading);
  assert.equal(leaders.length, 1, 'one leads, one stands by');

  const texts = await Promise.all(
    ports.map(async (port) => (await get(port, '/metrics', viewer)).text()),
  );
  const served = new Set(texts.join('\n').match(/^\w+/gm));
  const asked = [...dashboardExpressions(), ...alertRules().map(({ expr }) => expr)];
  const absent = new Set(asked.flatMap(metricNamesIn).filter((name) => !served.has(name)));
  assert.deepEqual([...absent], [], 'every metric of dashboard and alerts is served');

  const isWell = () =>
    machine.start('worker', {
      entrypoint: ['/usr/bin/tini', '--', ...imageHealthcheck],
      command: [],
      environment: listenOn(ports[0]!),
    }).ended;
  assert.equal(await isWell(), 0, 'the image finds its processes well');

  const drainedMs = performance.now();
  for (const { child } of running) child.kill('SIGTERM');
  for (const { name, ended, output } of running) {
    assert.equal(await ended, 0, `${name}:\n${output()}`);
  }
  const drain = performance.now() - drainedMs;
  t.diagnostic(`drained in ${(drain / 1000).toFixed(1)} s`);
  assert.ok(drain < parseDurationMs(services['worker']!.stop_grace_period!)!);
  assert.equal(await isWell(), 1, 'and unwell when they are gone');

  const stuck = machine.start('worker', {
    command: services['worker']!.command!.with(-1, '1s'),
  });
  await eventually(async () => (await isWell()) === 0, { withinMs: WITHIN_MS });
  await servers['redis:6379']!.kill('SIGSTOP');
  stuck.child.kill('SIGTERM');
  assert.equal(await stuck.ended, 3, 'a drain that cannot finish ends with its grace');
});

/** Requests counted by the hourly table. */
async function countGold(machine: Machine): Promise<number> {
  const query = machine.start('generate', {
    command: [
      'sql',
      '-c',
      '/etc/tidemark/pipeline.yaml',
      '--json',
      'SELECT sum(requests) AS requests FROM gold.api_usage_hourly',
    ],
  });
  let rows = '';
  query.child.stdout?.on('data', (chunk: Buffer) => (rows += chunk.toString()));
  assert.equal(await query.ended, 0, query.output());
  const [row] = JSON.parse(rows) as { readonly requests: string | null }[];
  return Number(row?.requests ?? 0);
}
