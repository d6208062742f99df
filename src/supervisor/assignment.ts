/**
 * Which worker owns which partition: balanced, sticky, with the fewest moves. Pure.
 *
 * Invariants:
 * - AS1 Every partition has exactly one worker as long as there is one.
 * - AS2 `sticky`: loads differ by at most one partition, and no plan with that balance moves fewer.
 * - AS3 The same input gives the same plan, whatever the order of its entries.
 */

export interface AssignmentInput {
  readonly partitions: readonly number[];
  readonly workers: readonly string[];
  /** Owner of each partition now; partitions without one are missing. */
  readonly current: ReadonlyMap<number, string>;
  /** Records not yet committed, to spread heavy partitions; missing counts as 0. */
  readonly lag?: ReadonlyMap<number, number>;
  /** `sticky` moves as little as balance allows; `even` spreads lag from scratch. */
  readonly strategy: 'sticky' | 'even';
}

/** Partition to worker; empty when there is no worker. */
export type Assignment = ReadonlyMap<number, string>;

/** Plans the assignment. */
export function assignPartitions(input: AssignmentInput): Assignment {
  const workers = [...new Set(input.workers)].sort();
  const lagOf = (partition: number): number => input.lag?.get(partition) ?? 0;
  const byLag = [...new Set(input.partitions)].sort((a, b) => lagOf(b) - lagOf(a) || a - b);
  if (workers.length === 0) return new Map();

  const owned = new Map<string, number[]>(workers.map((worker) => [worker, []]));
  const homeless: number[] = [];
  for (const partition of byLag) {
    const owner = input.strategy === 'sticky' ? input.current.get(partition) : undefined;
    const list = owner === undefined ? undefined : owned.get(owner);
    if (list) list.push(partition);
    else homeless.push(partition);
  }
  shedSurplus(owned, byLag.length, homeless);

  const lagSum = new Map(
    workers.map((worker) => [worker, owned.get(worker)!.reduce((sum, p) => sum + lagOf(p), 0)]),
  );
  homeless.sort((a, b) => lagOf(b) - lagOf(a) || a - b);
  for (const partition of homeless) {
    const worker = leastLoaded(workers, owned, lagSum);
    owned.get(worker)!.push(partition);
    lagSum.set(worker, lagSum.get(worker)! + lagOf(partition));
  }
  const plan = new Map<number, string>();
  for (const worker of workers)
    for (const partition of owned.get(worker)!) plan.set(partition, worker);
  return plan;
}

/** Partitions that change their owner between two assignments. */
export function movesBetween(before: Assignment, after: Assignment): readonly number[] {
  return [...after].filter(([p, worker]) => before.get(p) !== worker).map(([p]) => p);
}

/** AS2: the workers with most may keep one more than the floor, as many of them as the remainder. */
function shedSurplus(owned: Map<string, number[]>, partitions: number, homeless: number[]): void {
  const floor = Math.floor(partitions / owned.size);
  let extras = partitions % owned.size;
  const fullestFirst = [...owned.values()].sort((a, b) => b.length - a.length);
  for (const list of fullestFirst) {
    const keeps = list.length > floor && extras > 0 ? floor + 1 : floor;
    if (list.length > floor) extras -= keeps - floor;
    while (list.length > keeps) homeless.push(list.pop()!);
  }
}

function leastLoaded(
  workers: readonly string[],
  owned: ReadonlyMap<string, readonly number[]>,
  lagSum: ReadonlyMap<string, number>,
): string {
  let best = workers[0]!;
  for (const worker of workers) {
    const fewer = owned.get(worker)!.length - owned.get(best)!.length;
    if (fewer < 0 || (fewer === 0 && lagSum.get(worker)! < lagSum.get(best)!)) best = worker;
  }
  return best;
}
