/**
 * `tidemark` as a child process in a group of its own, so that a drill can kill all of it at once.
 *
 * DP1 Nothing that was started here outlives this process: it is killed at an orderly end, and ends by
 *     itself when the channel to this process closes (PE1).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { extname } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  /** The end of it. */
  readonly stderr: string;
}

const STDERR_KEPT = 32 * 1024;
/** The sources run as they are, the image runs what was compiled from them. */
const MAIN = fileURLToPath(new URL(`../../main${extname(import.meta.url)}`, import.meta.url));

const live = new Set<DrillProcess>();
const folders = new Set<string>();
let isHooked = false;

/** DP1 */
function hookExit(): void {
  if (isHooked) return;
  isHooked = true;
  process.on('exit', () => {
    for (const child of live) child.signal('SIGKILL');
    for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  });
}

/** Has a folder removed when this process ends before `forgetFolder`. */
export function removeAtExit(folder: string): void {
  hookExit();
  folders.add(folder);
}

/** The folder was removed. */
export function forgetFolder(folder: string): void {
  folders.delete(folder);
}

export class DrillProcess {
  /** Resolves when the process is gone; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  #stderr = '';
  #isGone = false;

  /** Starts `tidemark ARGS`. */
  constructor(
    args: readonly string[],
    options: {
      readonly cwd: string;
      readonly environment: Readonly<Record<string, string | undefined>>;
    },
  ) {
    hookExit();
    this.#child = spawn(process.execPath, [...process.execArgv, MAIN, ...args], {
      cwd: options.cwd,
      env: options.environment as NodeJS.ProcessEnv,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    live.add(this);
    let stdout = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        this.#isGone = true;
        live.delete(this);
        resolve({ code, signal, stdout, stderr: this.#stderr });
      };
      this.#child.once('close', end);
      this.#child.once('error', (error) => {
        this.#stderr += error.message;
        if (this.#child.pid === undefined) end(null, null);
      });
    });
  }

  get isRunning(): boolean {
    return !this.#isGone;
  }

  /** What it said so far, the end of it. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Signals the whole group: the process and those that it started. */
  signal(signal: NodeJS.Signals): void {
    if (this.#isGone || this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  async kill(): Promise<ProcessEnd> {
    this.signal('SIGKILL');
    return this.ended;
  }
}
