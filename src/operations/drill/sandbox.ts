/**
 * A throw-away pipeline: its file, its places on the services, and ways to break these.
 *
 * SB1 Only what carries the sandbox's own, random name is made, broken or removed: a topic, keys below a
 *     prefix, a folder.
 * SB2 A service is cut off before the sandbox's pipeline alone; nobody else notices.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parsePipeline } from '../../config.ts';
import { configError } from '../../config/problem.ts';
import { PipelineError } from '../../errors.ts';
import { errorFields } from '../../logger.ts';
import type { PipelineConfig } from '../../pipeline/pipeline-config.ts';
import { type Definition, drillFile, PARTITIONS } from './definition.ts';
import type { DrillHost } from './drill-host.ts';
import { DrillProcess, forgetFolder, type ProcessEnd, removeAtExit } from './drill-process.ts';
import { type BreakableService, OUTAGES_VARIABLE } from './outages.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** A service that can be taken away from the sandbox's pipeline. */
export interface Breakable {
  cut(): Promise<void>;
  restore(): Promise<void>;
}

export class Sandbox {
  readonly name: string;
  readonly folder: string;
  /** The pipeline past the proxies, as the drill itself sees it. */
  readonly config: PipelineConfig;
  /** undefined: this service cannot be cut off. */
  readonly breakables: Readonly<Record<BreakableService | 'state', Breakable | undefined>>;
  readonly #host: DrillHost;
  readonly #environment: Readonly<Record<string, string | undefined>>;
  readonly #remove: (() => Promise<void>)[];
  #definition: Definition;

  private constructor(
    host: DrillHost,
    given: Pick<Sandbox, 'name' | 'folder' | 'config' | 'breakables'> & {
      readonly environment: Readonly<Record<string, string | undefined>>;
      readonly definition: Definition;
      readonly remove: (() => Promise<void>)[];
    },
  ) {
    this.#host = host;
    this.name = given.name;
    this.folder = given.folder;
    this.config = given.config;
    this.breakables = given.breakables;
    this.#environment = given.environment;
    this.#definition = given.definition;
    this.#remove = given.remove;
  }

  /**
   * Makes one.
   * @param label part of its name: lower case letters and hyphens
   * @throws PipelineError unavailable | invalid; then nothing is left behind
   */
  static async open(host: DrillHost, label: string): Promise<Sandbox> {
    // SB1
    const name = `drill-${label}-${host.ambient.ids.id().slice(0, 8)}`;
    const folder = await mkdtemp(join(tmpdir(), `tidemark-${name}-`));
    removeAtExit(folder);
    const remove: (() => Promise<void>)[] = [
      async () => {
        await rm(folder, { recursive: true, force: true, maxRetries: 3 });
        forgetFolder(folder);
      },
    ];
    try {
      const { definition, variables } = drillFile(host.base, { name, folder });
      const config = parse(definition, variables, folder);
      if (config.lake.kind === 's3') remove.push(() => removeObjects(host, config));
      if (config.state.kind === 'redis') remove.push(() => host.adapters.eraseState(config));
      const advertised =
        config.source.kind === 'kafka' ? await makeTopic(host, config, remove) : [];
      const routed = await route(config, definition, advertised, { folder, remove });
      const { url } = routed;
      const sandbox = new Sandbox(host, {
        name,
        folder,
        config,
        breakables: routed.breakables,
        definition: routed.definition,
        environment: {
          ...host.environment,
          ...variables,
          ...(url === undefined ? {} : { [stateVariable(definition)]: url }),
          [OUTAGES_VARIABLE]: folder,
          XDG_CACHE_HOME: join(folder, 'cache'),
        },
        remove,
      });
      await sandbox.declare({});
      return sandbox;
    } catch (thrown) {
      await removeAll(host, remove);
      throw thrown;
    }
  }

  get file(): string {
    return join(this.folder, 'pipeline.yaml');
  }

  /** Writes the pipeline file anew, with some sections changed. */
  async declare(sections: Definition): Promise<void> {
    this.#definition = { ...this.#definition, ...sections };
    // JSON is YAML. Passwords are in the environment, but nobody else needs to read this either.
    await writeFile(this.file, JSON.stringify(this.#definition), { mode: 0o600 });
  }

  /** Starts `tidemark COMMAND -c FILE …`. */
  start(command: string, ...args: readonly string[]): DrillProcess {
    const words = command.split(' ');
    return new DrillProcess([...words, '-c', this.file, ...args], {
      cwd: this.folder,
      environment: this.#environment,
    });
  }

  /** Runs a command to its end; a signal to the drill ends it. */
  async command(command: string, ...args: readonly string[]): Promise<ProcessEnd> {
    const child = this.start(command, ...args);
    const stop = (): void => child.signal('SIGKILL');
    this.#host.signal.addEventListener('abort', stop, { once: true });
    const end = await child.ended;
    this.#host.signal.removeEventListener('abort', stop);
    return end;
  }

  /**
   * A command's JSON document.
   * @throws PipelineError internal when it printed none
   */
  async json<T>(command: string, ...args: readonly string[]): Promise<T> {
    const { code, stdout, stderr } = await this.command(command, ...args, '--json');
    try {
      return JSON.parse(stdout) as T;
    } catch (cause) {
      const message = `tidemark ${command} ended with ${code}: ${stderr.trim().slice(-500)}`;
      throw new PipelineError('internal', 'TM_INTERNAL', message, { cause });
    }
  }

  /** Runs a command that must end well. @throws PipelineError internal when it does not */
  async succeed(command: string, ...args: readonly string[]): Promise<void> {
    const { code, stdout, stderr } = await this.command(command, ...args);
    if (code === 0) return;
    const said = `${stdout}\n${stderr}`.trim().slice(-500);
    const message = `tidemark ${command} ended with ${code}: ${said}`;
    throw new PipelineError('internal', 'TM_INTERNAL', message);
  }

  /** Removes all of it; what cannot be removed is named in the log. */
  remove(): Promise<void> {
    return removeAll(this.#host, this.#remove);
  }
}

function parse(definition: Definition, variables: Record<string, string>, cwd: string) {
  const parsed = parsePipeline(JSON.stringify(definition), { environment: variables, cwd });
  if (!parsed.ok) throw configError('the pipeline of the drill', parsed.problems);
  return parsed.config;
}

/** The variable that holds the URL of the state. */
function stateVariable(definition: Definition): string {
  const { url } = definition['state'] as { readonly url: string };
  return url.slice(2, -1);
}

/** @returns the addresses that brokers advertise */
async function makeTopic(
  host: DrillHost,
  config: PipelineConfig,
  remove: (() => Promise<void>)[],
): Promise<readonly string[]> {
  const admin = await host.adapters.openTopicAdmin(config);
  remove.push(async () => {
    try {
      await admin.remove();
    } finally {
      await admin.close();
    }
  });
  await admin.create(PARTITIONS);
  return admin.brokers();
}

/** Leads the pipeline to its services through proxies, where that is possible (SB2). */
async function route(
  config: PipelineConfig,
  definition: Definition,
  advertised: readonly string[],
  options: { readonly folder: string; readonly remove: (() => Promise<void>)[] },
): Promise<{
  readonly definition: Definition;
  readonly url: string | undefined;
  readonly breakables: Sandbox['breakables'];
}> {
  const { source, lake, state } = config;
  const before = async (address: string): Promise<TcpProxy> => {
    const url = new URL(`tcp://${address}`);
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const proxy = await TcpProxy.open({ host, port: Number(url.port) });
    options.remove.push(() => proxy.close());
    return proxy;
  };
  const breakables: Record<keyof Sandbox['breakables'], Breakable | undefined> = {
    source: outage(options.folder, 'source'),
    store: outage(options.folder, 'store'),
    state: undefined,
  };
  let routed = definition;
  let stateUrl: string | undefined;
  if (source.kind === 'kafka') {
    const addresses = new Set([...source.brokers, ...advertised]);
    const proxies = new Map<string, TcpProxy>();
    for (const address of addresses) {
      proxies.set(address, await before(source.addressMap[address] ?? address));
    }
    const addressMap = Object.fromEntries([...proxies].map(([a, proxy]) => [a, proxy.address]));
    routed = { ...routed, source: { ...(routed['source'] as object), addressMap } };
    breakables.source = proxied([...proxies.values()]);
  }
  // A certificate does not name the loopback, and a bucket's name may be part of the host's.
  if (lake.kind === 's3' && lake.endpoint?.startsWith('http:') && lake.forcePathStyle) {
    const { host, port } = new URL(lake.endpoint);
    const proxy = await before(port === '' ? `${host}:80` : host);
    const endpoint = `http://${proxy.address}`;
    routed = { ...routed, lake: { ...(routed['lake'] as object), endpoint } };
    breakables.store = proxied([proxy]);
  }
  if (state.kind === 'redis' && state.url.startsWith('redis:')) {
    const url = new URL(state.url);
    const proxy = await before(`${url.hostname}:${url.port === '' ? 6379 : url.port}`);
    url.host = proxy.address;
    stateUrl = url.href;
    breakables.state = proxied([proxy]);
  }
  return { definition: routed, url: stateUrl, breakables };
}

function proxied(proxies: readonly TcpProxy[]): Breakable {
  return {
    cut: async () => proxies.forEach((proxy) => proxy.cut()),
    restore: async () => proxies.forEach((proxy) => proxy.restore()),
  };
}

/** By the ports of the pipeline's process (outages.ts). */
function outage(folder: string, service: BreakableService): Breakable {
  const sign = join(folder, service);
  return { cut: () => writeFile(sign, ''), restore: () => rm(sign, { force: true }) };
}

async function removeObjects(host: DrillHost, config: PipelineConfig): Promise<void> {
  const store = await host.adapters.openStore(config);
  try {
    const keys: string[] = [];
    for await (const { key } of store.list('')) keys.push(key);
    const lane = async (): Promise<void> => {
      for (let key = keys.pop(); key !== undefined; key = keys.pop()) await store.delete(key);
    };
    await Promise.all(Array.from({ length: 16 }, lane));
  } finally {
    await store.close();
  }
}

/** Newest first: what was made last may rest on what was made before. */
async function removeAll(host: DrillHost, remove: (() => Promise<void>)[]): Promise<void> {
  for (let step = remove.pop(); step !== undefined; step = remove.pop()) {
    try {
      await step();
    } catch (thrown) {
      host.logger.error('a drill could not clean up after itself', errorFields(thrown));
    }
  }
}
