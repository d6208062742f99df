/**
 * Processes whose CPU time and memory are measured from outside, by Linux' /proc.
 *
 * - MP1 CPU time is what the kernel adds to this process when it reaps a child, with all that the child
 *   reaped itself: exact, and free of sampling. Nothing else may end between the two readings.
 * - MP2 Peak memory is VmHWM summed over the processes that live at a moment, the most of all looks.
 *   VmHWM never falls, so a look shortly before the end is as good as one at the end.
 * - MP3 What runs longer than LIMIT_MS is killed: a benchmark must not hang.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Clock ticks per second in /proc; the same on every Linux architecture that Node runs on. */
const TICKS_PER_S = 100;
const LOOK_MS = 100;
const LIMIT_MS = 900_000;

/** CPU seconds of all children that this process has reaped. */
export function reapedCpuSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_S;
}

/** CPU seconds so far of a process that runs, without its children. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

/** `0.52 0.61 0.70` */
export function loadAverage(): string {
  return readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ');
}

/** How a measured process ended. */
export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** From the start of the process to its end. */
  readonly wallS: number;
  /** Of the process and its descendants (MP2). */
  readonly peakRssBytes: number;
}

/** A process under measurement; it is killed when this one ends. */
export class MeasuredProcess {
  readonly startedMs = performance.now();
  readonly ended: Promise<Outcome>;
  readonly #child: ChildProcess;
  #peakRssBytes = 0;

  /** @param cwd default: this process's own */
  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd?: string) {
    const child = spawn(command, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#child = child;
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    const watch = setInterval(() => {
      this.#peakRssBytes = Math.max(this.#peakRssBytes, peakOfTree(`${child.pid}`));
    }, LOOK_MS);
    const limit = setTimeout(kill, LIMIT_MS);
    this.ended = new Promise((done, failed) => {
      child.on('error', failed);
      child.on('close', (code) => {
        clearInterval(watch);
        clearTimeout(limit);
        process.off('exit', kill);
        const wallS = (performance.now() - this.startedMs) / 1000;
        done({ code, stdout, stderr, wallS, peakRssBytes: this.peakRssBytes });
      });
    });
  }

  get peakRssBytes(): number {
    return this.#peakRssBytes;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#child.kill(signal);
  }
}

/** VmHWM in bytes of a process and its descendants. */
function peakOfTree(pid: string): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const own = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    const ofChildren = children.split(' ').filter(Boolean).map(peakOfTree);
    return ofChildren.reduce((sum, bytes) => sum + bytes, own);
  } catch {
    // It ended between two looks.
    return 0;
  }
}

/** @throws Error with the end of what it printed when the process failed */
export function assertEnded(what: string, { code, stdout, stderr }: Outcome): void {
  if (code === 0) return;
  const tail = `${stdout}\n${stderr}`.trim().split('\n').slice(-30).join('\n');
  throw new Error(`${what} ended with ${code}:\n${tail}`);
}
