/**
 * `tidemark` as users run it: bin/tidemark.js in a process group of its own, which ends with the test
 * at the latest, and with the test's process whatever ends that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { findCommand, projectDir } from '../../tools/tool-install.ts';

/** A process that ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const SCRIPT = join(projectDir, 'bin', 'tidemark.js');
const STDERR_KEPT = 64 * 1024;
const setpriv = process.platform === 'linux' ? findCommand('setpriv') : undefined;

/** How long a command may take; generous, since machines that run tests are often loaded. */
export const COMMAND_WITHIN_MS = 300_000;

export class TidemarkProcess {
  /** Resolves when the process is gone, however it ended. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #args: readonly string[];
  #stdout = '';
  #stderr = '';
  #isGone = false;

  /** Starts `tidemark ARGS`; the whole group is killed after the test. */
  constructor(
    t: TestContext,
    args: readonly string[],
    options: { readonly cwd: string; readonly environment?: Readonly<Record<string, string>> },
  ) {
    this.#args = args;
    const command = [process.execPath, SCRIPT, ...args];
    const [file, ...rest] =
      setpriv === undefined ? command : [setpriv, '--pdeathsig', 'KILL', ...command];
    this.#child = spawn(file!, rest, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    this.exited = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#isGone = true;
        resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
    t.after(() => this.kill());
  }

  get isRunning(): boolean {
    return !this.#isGone;
  }

  /** What it logged so far, the end of it. */
  get stderr(): string {
    return this.#stderr;
  }

  /**
   * Largest resident sets so far of the processes of the group that are alive, added up, bytes: no
   * less than what they ever took together. Linux only.
   */
  get peakMemoryBytes(): number {
    let kilobytes = 0;
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      try {
        // After the name in parentheses: state, parent, group.
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        const group = stat.slice(stat.lastIndexOf(')')).split(' ')[3];
        if (Number(group) !== this.#child.pid) continue;
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        kilobytes += Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0);
      } catch {
        // It ended meanwhile.
      }
    }
    return kilobytes * 1024;
  }

  /** Process ids of its children. Linux only. */
  get children(): readonly number[] {
    const { pid } = this.#child;
    const file = `/proc/${pid}/task/${pid}/children`;
    return readFileSync(file, 'utf8').split(' ').filter(Boolean).map(Number);
  }

  /** Signals the whole process group and waits for nothing. */
  send(signal: NodeJS.Signals): void {
    if (this.isRunning) process.kill(-this.#child.pid!, signal);
  }

  /** Signals the whole process group; resolves when the process is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> {
    if (this.isRunning && this.#child.pid !== undefined) {
      try {
        process.kill(-this.#child.pid, signal);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    return this.exited;
  }

  /**
   * Waits for the end.
   * @throws Error with what it logged, when it does not come in time
   */
  async ended(withinMs = COMMAND_WITHIN_MS): Promise<Exit> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      void this.kill();
    }, withinMs);
    const exit = await this.exited;
    clearTimeout(timer);
    if (!isLate) return exit;
    throw new Error(
      `tidemark ${this.#args.join(' ')} did not end within ${withinMs / 1000} s:\n${exit.stderr}`,
    );
  }
}
