/** Helm and tools/deploy-check, set up when first asked for, as the tests of deploy/ call them. */
import { spawn } from 'node:child_process';
import { setUp } from '../../tools/setup.ts';
import { chartFolder } from './deploy-files.ts';

/** What a program printed, and how it ended. */
export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export function runProgram(
  command: string,
  args: readonly string[],
  options: { readonly stdin?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: options.env ?? process.env });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ exitCode: code ?? -1, stdout, stderr }));
    // A program that ends before it reads says why on stderr.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.stdin ?? '');
  });
}

/** Runs helm. */
export async function helm(args: readonly string[], stdin = ''): Promise<Ended> {
  const { helm: command } = await setUp(['helm']);
  return runProgram(command, args, { stdin });
}

/** `helm template` of the chart with these values. @throws Error with what helm says */
export async function renderChart(values: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await templateChart(values);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout;
}

/** As renderChart, but a refusal is an answer. */
export function templateChart(values: Readonly<Record<string, unknown>>): Promise<Ended> {
  // A helm that was not built for a release takes an old Kubernetes for granted.
  const release = ['template', 'events', chartFolder, '--namespace', 'data'];
  const args = [...release, '--kube-version', '1.33.0', '--values', '-'];
  return helm(args, JSON.stringify(values));
}

/** Runs a command of tools/deploy-check. @throws Error with what it says */
export async function deployCheck<T>(
  args: readonly string[],
  options: { readonly stdin?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<T> {
  const { deployCheck: command } = await setUp(['deployCheck']);
  const { exitCode, stdout, stderr } = await runProgram(command, args, options);
  if (exitCode !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as T;
}
