/**
 * How one tool comes onto the machine: look for the command, install the Debian package when root,
 * else say what to install. Everything that is downloaded goes below `.tools/` and is stamped, so
 * that a second run does nothing.
 */
import { spawn } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

/** Folder of the checkout. */
export const projectDir = resolve(import.meta.dirname, '..');

/** Where tools are kept between runs; `TIDEMARK_TOOLS_DIR` lets several checkouts share one folder. */
export const toolsDir = process.env['TIDEMARK_TOOLS_DIR'] ?? join(projectDir, '.tools');

/** The set-up cannot go on; the message says what to install by hand. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
}

/** Finds an executable on the PATH. @returns its path, or undefined */
export function findCommand(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const candidate = join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/**
 * Runs a command without input.
 * @returns what it printed (stdout and stderr together)
 * @throws SetupError with the end of that output when it fails
 */
export function runCommand(
  command: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<string> {
  return new Promise((done, failed) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? projectDir,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) => failed(new SetupError(`${command}: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) return done(output);
      const tail = output.trimEnd().split('\n').slice(-25).join('\n');
      failed(new SetupError(`${[command, ...args].join(' ')} ended with ${code}:\n${tail}`));
    });
  });
}

let aptQueue: Promise<unknown> = Promise.resolve();
let aptListsFresh = false;

async function aptInstall(debianPackage: string): Promise<void> {
  const apt = (...args: string[]): Promise<string> =>
    runCommand('apt-get', ['-y', '-q', '-o', 'DPkg::Lock::Timeout=300', ...args], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
    });
  if (!aptListsFresh) {
    await apt('update');
    aptListsFresh = true;
  }
  await apt('install', '--no-install-recommends', debianPackage);
}

/**
 * Makes sure a Debian package's effect is there.
 * @param isThere looks for it, before and after
 * @throws SetupError that says what to install, where this process may not
 */
export async function ensureDebianPackage<T>(
  debianPackage: string,
  isThere: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const before = await isThere();
  if (before !== undefined) return before;
  if (process.getuid?.() !== 0 || findCommand('apt-get') === undefined) {
    throw new SetupError(
      `please install the Debian package ${debianPackage} (or its like), then run this again`,
    );
  }
  // apt takes one lock for the whole machine: installs queue up here instead of failing there.
  const turn = aptQueue.then(() => aptInstall(debianPackage));
  aptQueue = turn.catch(() => undefined);
  await turn;
  const after = await isThere();
  if (after === undefined) {
    throw new SetupError(`${debianPackage} was installed, but what it should bring is missing`);
  }
  return after;
}

/** Finds a command, or installs the Debian package that brings it. @returns its path */
export function ensureCommand(name: string, debianPackage: string): Promise<string> {
  return ensureDebianPackage(debianPackage, () => findCommand(name));
}

/**
 * Builds a folder below `.tools/` once, in whichever process comes first. The stamp is written last,
 * so a build that was cut off is made again from nothing.
 * @param recipe all that decides the content (versions); another recipe means a new build
 * @returns the folder
 */
export async function buildOnce(
  name: string,
  recipe: string,
  build: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(toolsDir, name);
  const stamp = join(folder, '.recipe');
  const isBuilt = (): boolean => existsSync(stamp) && readFileSync(stamp, 'utf8') === recipe;
  if (isBuilt()) return folder;
  const started = performance.now();
  const unlock = await lockFile(join(toolsDir, `${name}.lock`));
  try {
    if (isBuilt()) return folder;
    console.log(`setup: ${name} ...`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    await build(folder);
    writeFileSync(stamp, recipe);
    console.log(`setup: ${name} ready (${((performance.now() - started) / 1000).toFixed(1)} s)`);
    return folder;
  } finally {
    unlock();
  }
}

/** Waits for a lock between processes; one whose process is gone is taken over. @returns unlock */
async function lockFile(path: string): Promise<() => void> {
  mkdirSync(toolsDir, { recursive: true });
  while (!tryLock(path)) await new Promise((wake) => setTimeout(wake, 300));
  const unlock = (): void => {
    process.off('exit', unlock);
    rmSync(path, { force: true });
  };
  process.once('exit', unlock);
  return unlock;
}

function tryLock(path: string): boolean {
  try {
    writeFileSync(path, `${process.pid}`, { flag: 'wx' });
    return true;
  } catch {
    const holder = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
    if (holder > 0 && !isAlive(holder)) rmSync(path, { force: true });
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
