/**
 * Where the time goes: one run under `--cpu-prof`, self time per thread and source file as µs per event.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Figures, type Run, runTidemark } from './contenders.ts';
import { projectDir } from '../tool-install.ts';

/** V8's format; times in µs. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface ThreadProfile {
  readonly thread: string;
  /** Sum of the steps. */
  readonly usPerEvent: number;
  /** Descending. */
  readonly steps: readonly { readonly file: string; readonly usPerEvent: number }[];
}

/** A thread is named by the file that only it runs. */
const THREADS: readonly (readonly [file: string, thread: string])[] = [
  ['src/actors/bronze-writer/bronze-thread.ts', 'bronze'],
  ['src/actors/silver-writer/silver-thread.ts', 'silver'],
  ['src/actors/gold-writer/gold-thread.ts', 'gold'],
  ['src/main.ts', 'main'],
];

export async function profileTidemark(
  run: Run,
): Promise<{ readonly figures: Figures; readonly threads: readonly ThreadProfile[] }> {
  const folder = join(run.bench.folder, 'profiles');
  mkdirSync(folder);
  const figures = await runTidemark(run, ['--cpu-prof', '--cpu-prof-dir', folder]);
  const threads = readdirSync(folder)
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile)
    .map((profile) => threadProfile(profile, run.data.truth.lines))
    .sort((a, b) => b.usPerEvent - a.usPerEvent);
  return { figures, threads };
}

function threadProfile({ nodes, samples, timeDeltas }: CpuProfile, events: number): ThreadProfile {
  const fileOf = new Map(nodes.map(({ id, callFrame }) => [id, stepOf(callFrame)]));
  const selfUs = new Map<string, number>();
  samples.forEach((id, i) => {
    const file = fileOf.get(id)!;
    // A sample lasts until the next one.
    selfUs.set(file, (selfUs.get(file) ?? 0) + (timeDeltas[i + 1] ?? 0));
  });
  for (const waiting of ['(idle)', '(program)', '(root)']) selfUs.delete(waiting);
  const steps = [...selfUs]
    .map(([file, us]) => ({ file, usPerEvent: us / events }))
    .sort((a, b) => b.usPerEvent - a.usPerEvent);
  const files = new Set(fileOf.values());
  const thread = THREADS.find(([file]) => files.has(file))?.[1] ?? 'other';
  return { thread, usPerEvent: steps.reduce((sum, step) => sum + step.usPerEvent, 0), steps };
}

/** A file of the project, a package, a module of Node, or what V8 does itself in brackets. */
function stepOf({ functionName, url }: { functionName: string; url: string }): string {
  if (url === '') return functionName.startsWith('(') ? functionName : '(native)';
  if (url.startsWith('wasm:')) return 'parquet-wasm (wasm)';
  const path = url.replace(/^file:\/\//, '').replace(`${projectDir}/`, '');
  return (
    /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? path.replace(/^node:(\w+).*/, 'node:$1')
  );
}
